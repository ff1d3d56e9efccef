// Overlays and masks on NV12 and P010 pictures in video memory.
//
// The CPU decides what is drawn, and in what order; the kernels only apply it.
//
// `draw_nv12`. In: `marks`, the painter's calls in their order (evenly covered rectangles, lines, glyphs), already cut
// to the clip; `tiles`, squares of 32 × 32 pixels with something to draw, each with the ascending list of its marks
// within `order`; `covers`, the coverage (0 to 256) of all glyphs in use. Out: the canvas, blended in place. Grid: x
// over 256 × tiles; one thread owns one pair of chroma samples and its up to four pixels, and applies all marks of its
// tile to them. So overlapping marks blend in the painter's order, and the result is the CPU's bit for bit (compiled
// with -ffp-contract=off: lines are floats).
//
// `mask_planes`. In: for each plane, spans of samples by row. Out: those samples black, in place. Grid: x over LANES
// threads that share a row, y over the rows of the taller plane, z over the two planes. Bit for bit the CPU's.
//
// Method: render/canvas.rs, render/draw.rs and render/mask.rs.
#include "common.h"

struct Canvas {
    unsigned char* luma;
    unsigned char* chroma;
    // Bytes.
    int luma_pitch, chroma_pitch;
    // Pixels; the chroma plane is rounded up.
    int width, height;
};

enum Kind { EVEN = 0, LINE = 1, GLYPH = 2 };

struct Mark {
    // Pixels of the canvas that it may touch, cut to the clip; right and bottom are one past the last.
    int left, top, right, bottom;
    unsigned char y, cb, cr;
    // One of `Kind`.
    unsigned char kind;
    // EVEN: coverage, 0 to 256.
    int alpha;
    // GLYPH: the pixel where its cell starts, the cell's columns, and its first number in `covers`.
    int cell_left, cell_top, columns, first;
    // LINE: where it begins, the way to its end, that way's length squared, and half its width and half a pixel.
    float from_x, from_y, way_x, way_y, length2, reach;
};

struct Tile {
    // In tiles from the canvas' corner.
    unsigned short column, row;
    // Its marks: `count` numbers of `order`, from `first` on.
    int first, count;
};

// The lists of one picture.
struct Marks {
    const Mark* marks;
    const int* order;
    const Tile* tiles;
    const unsigned short* covers;
    int count;  // of tiles
    int reserved;
};

static_assert(sizeof(Canvas) == 32 && sizeof(Mark) == 64 && sizeof(Tile) == 12 && sizeof(Marks) == 40,
              "as in gpu/params.rs");

// How much of a pixel a mark covers, 0 to 256; the pixel lies within the mark's bounds.
DEVICE int cover(const Mark& mark, const unsigned short* covers, int x, int y) {
    if (mark.kind == EVEN) {
        return mark.alpha;
    }
    if (mark.kind == GLYPH) {
        return covers[mark.first + (y - mark.cell_top) * mark.columns + (x - mark.cell_left)];
    }
    const float px = float(x) + 0.5f - mark.from_x, py = float(y) + 0.5f - mark.from_y;
    float along = 0.0f;
    if (mark.length2 > 0.0f) {
        along = (px * mark.way_x + py * mark.way_y) / mark.length2;
        along = along < 0.0f ? 0.0f : along > 1.0f ? 1.0f : along;
    }
    const float ex = px - along * mark.way_x, ey = py - along * mark.way_y;
    const float inside = mark.reach - __builtin_sqrtf(ex * ex + ey * ey);
    return int((inside < 0.0f ? 0.0f : inside > 1.0f ? 1.0f : inside) * 256.0f);
}

DEVICE int blend(int sample, int color, int alpha) { return (sample * (256 - alpha) + color * alpha + 128) >> 8; }

KERNEL2(draw_nv12, Marks, list, Canvas, canvas) {
    const int cells = 16;
    // A second thread at the same place would blend twice.
    if (at.x / (cells * cells) >= list.count || at.y > 0 || at.z > 0) {
        return;
    }
    const Tile tile = list.tiles[at.x / (cells * cells)];
    const int cell_x = tile.column * cells + at.x % cells, cell_y = tile.row * cells + at.x / cells % cells;
    const int x = 2 * cell_x, y = 2 * cell_y;
    if (x >= canvas.width || y >= canvas.height) {
        return;
    }
    unsigned char* luma = canvas.luma + static_cast<long long>(y) * canvas.luma_pitch + x;
    unsigned char* chroma = canvas.chroma + static_cast<long long>(cell_y) * canvas.chroma_pitch + x;
    // At an odd edge of the canvas a chroma sample has fewer than four pixels.
    const int across = x + 1 < canvas.width ? 2 : 1, down = y + 1 < canvas.height ? 2 : 1;
    int pixels[4] = {0, 0, 0, 0}, cb = chroma[0], cr = chroma[1];
    for (int i = 0; i < 4; ++i) {
        if ((i & 1) < across && (i >> 1) < down) {
            pixels[i] = luma[(i >> 1) * canvas.luma_pitch + (i & 1)];
        }
    }
    for (int index = 0; index < tile.count; ++index) {
        const Mark& mark = list.marks[list.order[tile.first + index]];
        if (x + 2 <= mark.left || x >= mark.right || y + 2 <= mark.top || y >= mark.bottom) {
            continue;
        }
        int total = 0;
        for (int i = 0; i < 4; ++i) {
            const int px = x + (i & 1), py = y + (i >> 1);
            if (px >= mark.left && px < mark.right && py >= mark.top && py < mark.bottom) {
                const int alpha = cover(mark, list.covers, px, py);
                pixels[i] = blend(pixels[i], mark.y, alpha);
                total += alpha;
            }
        }
        // The mean over all its pixels, of which the mark may cover some.
        const int share = total / (across * down);
        cb = blend(cb, mark.cb, share);
        cr = blend(cr, mark.cr, share);
    }
    for (int i = 0; i < 4; ++i) {
        if ((i & 1) < across && (i >> 1) < down) {
            luma[(i >> 1) * canvas.luma_pitch + (i & 1)] = static_cast<unsigned char>(pixels[i]);
        }
    }
    chroma[0] = static_cast<unsigned char>(cb);
    chroma[1] = static_cast<unsigned char>(cr);
}

// Samples of a row to black out: from the first to one before the end. A pair of chroma samples counts as one.
struct Span {
    int begin, end;
};

struct MaskPlane {
    unsigned char* samples;
    // The spans of row r: `starts[r]` to one before `starts[r + 1]`.
    const int* starts;
    const Span* spans;
    // Bytes.
    int pitch;
    int rows;
    // Numbers that a sample takes: 1, or 2 for a pair of chroma samples; and the bytes of each.
    int kinds, bytes;
    // What black is here: 8 bits, or 16.
    int value;
    int reserved;
};

// Luma and chroma.
struct Mask {
    MaskPlane planes[2];
};

static_assert(sizeof(Span) == 8 && sizeof(MaskPlane) == 48 && sizeof(Mask) == 96, "as in gpu/params.rs");

// Threads that share a row.
enum { LANES = 64 };

KERNEL1(mask_planes, Mask, mask) {
    if (at.x >= LANES || at.z >= 2 || at.y >= mask.planes[at.z].rows) {
        return;
    }
    const MaskPlane& plane = mask.planes[at.z];
    unsigned char* line = plane.samples + static_cast<long long>(at.y) * plane.pitch;
    for (int index = plane.starts[at.y]; index < plane.starts[at.y + 1]; ++index) {
        const Span span = plane.spans[index];
        for (int place = span.begin * plane.kinds + at.x; place < span.end * plane.kinds; place += LANES) {
            if (plane.bytes == 1) {
                line[place] = static_cast<unsigned char>(plane.value);
            } else {
                reinterpret_cast<unsigned short*>(line)[place] = static_cast<unsigned short>(plane.value);
            }
        }
    }
}
