// Chroma planes become one plane of pairs: I420, as decoders on the CPU give it, becomes NV12.
//
// In: a `Join`. Out: every pair of the plane. Grid: x and y over the chroma samples; one thread makes one pair. Pitches
// are bytes.
#include "common.h"

struct Join {
    const unsigned char* cb;
    const unsigned char* cr;
    unsigned char* pairs;
    // Of the planes, and of the pairs.
    int pitch, pairs_pitch;
    // Samples.
    int width, height;
};

static_assert(sizeof(Join) == 40, "as in gpu/params.rs");

KERNEL1(join_chroma, Join, join) {
    if (at.x >= join.width || at.y >= join.height || at.z > 0) {
        return;
    }
    const long long sample = static_cast<long long>(at.y) * join.pitch + at.x;
    unsigned char* pair = join.pairs + static_cast<long long>(at.y) * join.pairs_pitch + 2 * at.x;
    pair[0] = join.cb[sample];
    pair[1] = join.cr[sample];
}
