// A virtual camera on the GPU: part of an NV12 or P010 picture, at an output's size, as NV12.
//
// In: a `View`: the source's planes, the output's planes, the rectangle of the output that shows the source (the rest
// becomes black bars), and filter tables. Out: every sample of the output's two planes. Grid: x and y over the output's
// chroma samples; one thread makes a pair of chroma samples and the up to four luma samples it belongs to. Pixels
// are output pixels, pitches bytes.
//
// The tables come from the CPU lane (render/axis.rs by way of render/cuda.rs) and the arithmetic is that of
// render/scale.rs in whole numbers: rows are summed to 8.7 bits first, then columns with 14 bits, rounded once. So the
// output is the CPU lane's bit for bit.
//
// Method: render/axis.rs (a box filter over the covered area, linear where it enlarges).
#include "common.h"

// Which source samples make up each output sample, and how much of each.
struct ViewAxis {
    // First source sample of each output sample; all `taps` of them lie in the plane.
    const int* first;
    // `taps` weights of each output sample; they add up to 2^14 across and to 2^8 down.
    const short* weights;
    int taps;
    int reserved;
};

// Where an NV12 picture lies.
struct Canvas {
    unsigned char* luma;
    unsigned char* chroma;
    int luma_pitch, chroma_pitch;
    // In pixels; chroma planes are rounded up.
    int width, height;
};

struct View {
    const unsigned char* luma;
    const unsigned char* chroma;
    int luma_pitch, chroma_pitch;
    // Bytes of a source sample: 1 (NV12) or 2 (P010, ten bits in the high bits).
    int bytes;
    // Luma of the bars.
    int black;
    // The output's pixels that show the source; left and top are even.
    int left, top, width, height;
    Canvas out;
    ViewAxis luma_x, luma_y, chroma_x, chroma_y;
};

static_assert(sizeof(ViewAxis) == 24 && sizeof(Canvas) == 32, "as in gpu/params.rs");
static_assert(sizeof(View) == 176 && __builtin_offsetof(View, out) == 48 && __builtin_offsetof(View, luma_x) == 80,
              "as in gpu/params.rs");

// One output sample of one kind; `kinds`: how many kinds lie side by side, 1 (luma) or 2 (chroma).
DEVICE unsigned char scaled(const unsigned char* samples, int pitch, int bytes, int kinds, int kind, const ViewAxis& x,
                            const ViewAxis& y, int column, int row) {
    const short* across = x.weights + static_cast<long long>(column) * x.taps;
    const short* down = y.weights + static_cast<long long>(row) * y.taps;
    const unsigned char* corner = samples + static_cast<long long>(y.first[row]) * pitch;
    int total = 1 << 20;
    for (int i = 0; i < x.taps; ++i) {
        const int index = (x.first[column] + i) * kinds + kind;
        const unsigned char* line = corner;
        int sum = 0;
        for (int j = 0; j < y.taps; ++j, line += pitch) {
            if (bytes == 1) {
                sum += line[index] * down[j];
            } else {
                // Ten bits in the high bits of sixteen: nine bits less, row by row, make the same 8.7.
                sum += reinterpret_cast<const unsigned short*>(line)[index] * down[j] >> 9;
            }
        }
        total += (bytes == 1 ? sum >> 1 : sum) * across[i];
    }
    return static_cast<unsigned char>(least(total >> 21, 255));
}

KERNEL1(view_nv12, View, view) {
    const Canvas& out = view.out;
    if (at.x >= (out.width + 1) / 2 || at.y >= (out.height + 1) / 2 || at.z > 0) {
        return;
    }
    for (int y = 2 * at.y; y < least(2 * at.y + 2, out.height); ++y) {
        for (int x = 2 * at.x; x < least(2 * at.x + 2, out.width); ++x) {
            const int column = x - view.left, row = y - view.top;
            const bool inside = column >= 0 && row >= 0 && column < view.width && row < view.height;
            out.luma[static_cast<long long>(y) * out.luma_pitch + x] =
                inside ? scaled(view.luma, view.luma_pitch, view.bytes, 1, 0, view.luma_x, view.luma_y, column, row)
                       : static_cast<unsigned char>(view.black);
        }
    }
    const int column = at.x - view.left / 2, row = at.y - view.top / 2;
    const bool inside = column >= 0 && row >= 0 && column < (view.width + 1) / 2 && row < (view.height + 1) / 2;
    unsigned char* pair = out.chroma + static_cast<long long>(at.y) * out.chroma_pitch + 2 * at.x;
    for (int kind = 0; kind < 2; ++kind) {
        pair[kind] = inside ? scaled(view.chroma, view.chroma_pitch, view.bytes, 2, kind, view.chroma_x,
                                     view.chroma_y, column, row)
                            : 128;
    }
}
