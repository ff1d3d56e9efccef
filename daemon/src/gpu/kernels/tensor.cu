// Pictures become tensors on the GPU: crop, resize, letterbox, colour conversion, normalisation, in one pass.
//
// In: `jobs`, one for each rectangle of an NV12 or P010 picture, of pictures of any sizes; `count` of them. Out: in
// `out`, for each job one whole batch entry, padding included: N C H W or N H W C, 32-bit floats (`tensor_f32`),
// IEEE 754 binary16 (`tensor_f16`) or bytes (`tensor_u8`). Grid: x and y over the input's columns and rows, z over
// the jobs; one thread makes all channels of one pixel.
//
// The tables come from the CPU lane's plan (preprocess/cuda.rs), and the arithmetic is that of preprocess/kernels.rs
// step by step: fixed point with two neighbours along each axis, or floats with any number of them, added in the same
// order. So all three kernels give the CPU lane's tensors bit for bit (compiled with -ffp-contract=off).
//
// Method: preprocess/mod.rs; f16 after IEEE 754-2019, 4.3.1 (roundTiesToEven).
#include "common.h"

// Which samples of a plane's axis make each pixel, and how much of each.
struct Axis {
    // First sample of each pixel, counted from the plane's edge.
    const int* first;
    // `taps` weights for each pixel, from its first sample on; they add up to 1.
    const float* weights;
    int taps;
    // The plane's last sample along this axis: taps beyond it have weight 0 and are not read.
    int last;
};

// One channel: clamp(y·Y + u·Cb + v·Cr + offset, low, high) with Y, Cb, Cr in 8-bit units; padding is `pad`.
struct Fold {
    float y, u, v, offset, low, high, pad;
};

// One rectangle of one picture, and where it goes.
struct Job {
    // Device addresses of the planes; pitches in bytes.
    const unsigned char* luma;
    const unsigned char* chroma;
    int luma_pitch, chroma_pitch;
    // Bytes of a sample: 1 (NV12) or 2 (P010, ten bits in the high bits).
    int bytes;
    // 1: two taps along each axis, in fixed point (14 bits across, 15 down). 0: floats.
    int fixed;
    // The pixels of the input that show the rectangle; the rest is padding.
    int left, top, width, height;
    // Batch entry.
    int entry;
    int reserved;
    Axis luma_x, luma_y, chroma_x, chroma_y;
    Fold folds[3];
    int end;
};

// The input.
struct Geometry {
    int width, height;
    // 3, or 1 for gray, which looks at no chroma.
    int channels;
    // 1: the channels of a pixel lie together (N H W C).
    int interleaved;
};

static_assert(sizeof(Axis) == 24 && sizeof(Fold) == 28 && sizeof(Geometry) == 16, "as in gpu/params.rs");
static_assert(sizeof(Job) == 240 && __builtin_offsetof(Job, luma_x) == 56 && __builtin_offsetof(Job, folds) == 152,
              "as in gpu/params.rs");

// One plane of a job. `kinds`: how many kinds of samples lie side by side, 1 (luma) or 2 (chroma).
struct Plane {
    const unsigned char* samples;
    long long pitch;
    int bytes, kinds;
};

// One sample: 8 bits, or 10.
DEVICE int sample(const Plane& plane, int row, int column, int kind) {
    const unsigned char* line = plane.samples + row * plane.pitch;
    int index = column * plane.kinds + kind;
    return plane.bytes == 1 ? line[index] : reinterpret_cast<const unsigned short*>(line)[index] >> 6;
}

// a + (b − a) × weight / 32768, rounded to nearest: `blend` of preprocess/kernels.rs.
DEVICE int blend(int a, int b, int weight) { return a + ((((b - a) * weight >> 14) + 1) >> 1); }

// Two rows, then two columns, with 21 fractional bits of an 8-bit sample. Exact weights: no rounding when they become
// whole numbers again.
DEVICE float in_fixed_point(const Plane& plane, int kind, const Axis& x, const Axis& y, int column, int row) {
    const int upper = y.first[row], left = x.first[column];
    const int lower = least(upper + 1, y.last), right = least(left + 1, x.last);
    const int down = int(y.weights[2 * row + 1] * 32768.0f);
    const int across = int(x.weights[2 * column + 1] * 16384.0f);
    const int shift = plane.bytes == 1 ? 7 : 5;
    const int near = blend(sample(plane, upper, left, kind) << shift, sample(plane, lower, left, kind) << shift, down);
    const int far = blend(sample(plane, upper, right, kind) << shift, sample(plane, lower, right, kind) << shift, down);
    return float(near * (16384 - across) + far * across);
}

// Any number of rows and columns, in 8-bit units.
DEVICE float in_floats(const Plane& plane, int kind, const Axis& x, const Axis& y, int column, int row) {
    const int left = x.first[column], upper = y.first[row];
    const float* across = x.weights + static_cast<long long>(column) * x.taps;
    const float* down = y.weights + static_cast<long long>(row) * y.taps;
    const float unit = plane.bytes == 1 ? 1.0f : 0.25f;
    float total = 0.0f;
    for (int i = 0; i < x.taps; ++i) {
        const int source = least(left + i, x.last);
        float sum = 0.0f;
        for (int j = 0; j < y.taps; ++j) {
            sum += float(sample(plane, least(upper + j, y.last), source, kind)) * (down[j] * unit);
        }
        total += sum * across[i];
    }
    return total;
}

DEVICE float resized(const Job& job, const Plane& plane, int kind, const Axis& x, const Axis& y, int column, int row) {
    return job.fixed ? in_fixed_point(plane, kind, x, y, column, row) : in_floats(plane, kind, x, y, column, row);
}

DEVICE void put(float* out, float value) { *out = value; }

DEVICE void put(unsigned char* out, float value) {
    const float rounded = value + 0.5f;
    *out = rounded >= 255.0f ? 255 : rounded > 0.0f ? static_cast<unsigned char>(int(rounded)) : 0;
}

// A binary16 has a type of its own here, so that it is not taken for a whole number.
struct Half {
    unsigned short bits;
};

// To the nearest binary16, ties to even, in whole numbers: the same on every machine.
DEVICE void put(Half* out, float value) {
    union {
        float number;
        unsigned bits;
    } word;
    word.number = value;
    const unsigned sign = word.bits >> 16 & 0x8000u, magnitude = word.bits & 0x7fffffffu;
    const unsigned exponent = magnitude >> 23;
    unsigned half;
    if (magnitude > 0x7f800000u) {
        half = 0x7e00u | (magnitude >> 13 & 0x3ffu);
    } else if (magnitude >= 0x47800000u) {
        half = 0x7c00u;
    } else if (exponent >= 113) {
        // A carry out of the fraction raises the exponent, up to infinity: as it must.
        const unsigned rebiased = magnitude - (112u << 23);
        half = (rebiased + 0xfffu + (rebiased >> 13 & 1u)) >> 13;
    } else if (exponent >= 102) {
        const unsigned fraction = (magnitude & 0x7fffffu) | 0x800000u, shift = 126 - exponent;
        const unsigned rest = fraction & ((1u << shift) - 1), middle = 1u << (shift - 1);
        half = fraction >> shift;
        half += rest > middle || (rest == middle && (half & 1u)) ? 1 : 0;
    } else {
        half = 0;
    }
    out->bits = static_cast<unsigned short>(sign | half);
}

// One pixel of the input, all channels.
template <class Element>
DEVICE void pixel(const At& at, const Job* jobs, int count, Element* out, const Geometry& to) {
    if (at.x >= to.width || at.y >= to.height || at.z >= count) {
        return;
    }
    const Job& job = jobs[at.z];
    const long long place = static_cast<long long>(at.y) * to.width + at.x;
    const long long plane = static_cast<long long>(to.width) * to.height;
    Element* element = out + job.entry * plane * to.channels + (to.interleaved ? place * to.channels : place);
    const long long step = to.interleaved ? 1 : plane;
    const int column = at.x - job.left, row = at.y - job.top;
    if (column < 0 || row < 0 || column >= job.width || row >= job.height) {
        for (int channel = 0; channel < to.channels; ++channel) {
            put(element + channel * step, job.folds[channel].pad);
        }
        return;
    }
    const float unit = job.fixed ? 1.0f / (1 << 21) : 1.0f;
    const Plane luma = {job.luma, job.luma_pitch, job.bytes, 1};
    const float y = resized(job, luma, 0, job.luma_x, job.luma_y, column, row);
    float u = 0.0f, v = 0.0f;
    if (to.channels > 1) {
        const Plane chroma = {job.chroma, job.chroma_pitch, job.bytes, 2};
        u = resized(job, chroma, 0, job.chroma_x, job.chroma_y, column, row);
        v = resized(job, chroma, 1, job.chroma_x, job.chroma_y, column, row);
    }
    for (int channel = 0; channel < to.channels; ++channel) {
        const Fold& fold = job.folds[channel];
        float value = fold.y * unit * y;
        if (to.channels > 1) {
            value = value + fold.u * unit * u + fold.v * unit * v;
        }
        value += fold.offset;
        value = value > fold.low ? value : fold.low;
        put(element + channel * step, value < fold.high ? value : fold.high);
    }
}

KERNEL4(tensor_f32, const Job*, jobs, int, count, void*, out, Geometry, geometry) {
    pixel(at, jobs, count, static_cast<float*>(out), geometry);
}

KERNEL4(tensor_f16, const Job*, jobs, int, count, void*, out, Geometry, geometry) {
    pixel(at, jobs, count, static_cast<Half*>(out), geometry);
}

KERNEL4(tensor_u8, const Job*, jobs, int, count, void*, out, Geometry, geometry) {
    pixel(at, jobs, count, static_cast<unsigned char*>(out), geometry);
}
