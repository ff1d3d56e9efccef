// Kernels for the self-test, built for the host as the driver wants them: NAME__host, run once for the whole grid.
//
// In: the grid, the block, the addresses of the parameters. Out: what the kernel wrote. Who owns: the caller.
// What fails: nothing.
#include <stddef.h>

#define KERNEL(name)                                                                                           \
  void name##__host(unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, void **params); \
  void name##__host(unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, void **params)

KERNEL(add) {
  unsigned *sum = *(unsigned **)params[0];
  const unsigned *with = *(const unsigned **)params[1];
  unsigned count = *(unsigned *)params[2];
  for (unsigned i = 0; i < gx * gy * gz * bx * by * bz && i < count; i++) sum[i] += with[i];
}

KERNEL(fill) {
  const struct { unsigned *at; unsigned first, step; size_t count; } *range = params[0];
  for (unsigned i = 0; i < gx * gy * gz * bx * by * bz && i < range->count; i++) range->at[i] = range->first + i * range->step;
}

// Follows addresses that lie in device memory themselves.
KERNEL(sum) {
  const unsigned *const *lists = *(const unsigned *const **)params[0];
  unsigned *out = *(unsigned **)params[1];
  *out = gx * gy * gz * bx * by * bz == 2 ? lists[0][3] + lists[1][3] : 0;
}
