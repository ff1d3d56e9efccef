// A coarse grid of luma samples, for motion and scene cuts.
//
// In: the luma plane of an NV12 or P010 picture. Out: columns × rows bytes at `out`, row by row without padding: 8 bit and
// full range, whatever the picture has. Grid: x over the columns, y over the rows. Pitches are bytes.
//
// The places and the arithmetic are those of ingest/change.rs: the middle of each cell, whole numbers rounded down (to
// zero where negative), so the grid is the CPU lane's byte for byte.
#include "common.h"

struct Samples {
    const unsigned char* luma;
    unsigned char* out;
    int pitch;
    // Bytes of a sample: 1 (NV12) or 2 (P010, ten bits in the high bits).
    int bytes;
    // Of the picture, in pixels.
    int width, height;
    // Of the grid; neither more than the picture has.
    int columns, rows;
    // 1: luma from 16 to 235 becomes 0 to 255.
    int limited;
    int reserved;
};

static_assert(sizeof(Samples) == 48, "as in gpu/params.rs");

KERNEL1(grid_luma, Samples, grid) {
    if (at.x >= grid.columns || at.y >= grid.rows || at.z > 0) {
        return;
    }
    const int x = (at.x * 2 + 1) * grid.width / (grid.columns * 2);
    const int y = (at.y * 2 + 1) * grid.height / (grid.rows * 2);
    // The last byte of a little-endian sample has its eight highest bits.
    const unsigned char* row = grid.luma + static_cast<long long>(y) * grid.pitch;
    int value = row[x * grid.bytes + grid.bytes - 1];
    if (grid.limited) {
        value = value < 16 ? 0 : least((value - 16) * 255 / 219, 255);
    }
    grid.out[at.y * grid.columns + at.x] = static_cast<unsigned char>(value);
}
