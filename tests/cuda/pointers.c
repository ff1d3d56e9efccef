// What lies behind an address: the questions CUDA answers about pointers.
//
// In: addresses. Out: attributes of the block they lie in. Who owns: memory.c owns the blocks, this only reads.
// What fails: an address that is in no live block is INVALID_VALUE.
#include "soft.h"

// The live block at an address; copied out, since it may go as soon as the lock does.
static CUresult block_at(uintptr_t at, struct wp_block *out) {
  pthread_mutex_lock(&wp_lock);
  struct wp_block *block = wp_find(at);
  bool live = block && !block->freed;
  if (live) *out = *block;
  pthread_mutex_unlock(&wp_lock);
  return live ? OK : INVALID_VALUE;
}

static bool is_host(const struct wp_block *block) { return block->where == PINNED || block->where == REGISTERED; }

static CUresult attribute(void *out, int which, CUdeviceptr at) {
  struct wp_block block;
  if (!out) return INVALID_VALUE;
  TRY(block_at(at, &block));
  switch (which) {
    case 1: *(CUcontext *)out = block.context; return OK;
    case 2: *(unsigned *)out = is_host(&block) ? 1 : 2; return OK;              // memory type
    case 3: *(CUdeviceptr *)out = at; return OK;                                // device pointer
    case 4:                                                                      // host pointer
      if (block.where == DEVICE) return INVALID_VALUE;
      *(void **)out = (void *)(uintptr_t)at;
      return OK;
    case 6: *(unsigned *)out = 0; return OK;                                    // synchronises memory operations
    case 7: *(uint64_t *)out = block.number; return OK;                         // buffer id
    case 8: *(unsigned *)out = block.where == MANAGED; return OK;
    case 9: *(int *)out = block.device; return OK;
    case 11: *(CUdeviceptr *)out = block.at; return OK;                         // range
    case 12: *(size_t *)out = block.size; return OK;
    case 13: *(unsigned *)out = 1; return OK;                                   // mapped
    default: return NOT_SUPPORTED;
  }
}

API CUresult cuPointerGetAttribute(void *out, int which, CUdeviceptr at) {
  ENTER(INIT);
  return attribute(out, which, at);
}

API CUresult cuPointerGetAttributes(unsigned count, const int *which, void **out, CUdeviceptr at) {
  ENTER(INIT);
  if (!which || !out) return INVALID_VALUE;
  // Unknown memory is no error here: everything reads as zero.
  struct wp_block block;
  bool known = !block_at(at, &block);
  for (unsigned i = 0; i < count; i++) {
    if (known && !attribute(out[i], which[i], at)) continue;
    bool wide = which[i] == 1 || which[i] == 3 || which[i] == 4 || which[i] == 7 || which[i] == 11 || which[i] == 12;
    if (wide) *(uint64_t *)out[i] = 0;
    else *(unsigned *)out[i] = 0;
  }
  return OK;
}

API CUresult cuPointerSetAttribute(const void *value, int which, CUdeviceptr at) {
  ENTER(INIT);
  struct wp_block block;
  if (!value || which != 6) return INVALID_VALUE;
  return block_at(at, &block);
}

API CUresult cuMemGetAddressRange_v2(CUdeviceptr *start, size_t *size, CUdeviceptr at) {
  ENTER(INIT);
  struct wp_block block;
  TRY(block_at(at, &block));
  if (start) *start = block.at;
  if (size) *size = block.size;
  return OK;
}

API CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *out, void *at, unsigned flags) {
  ENTER(CURRENT);
  struct wp_block block;
  if (!out || flags) return INVALID_VALUE;
  TRY(block_at((uintptr_t)at, &block));
  if (!is_host(&block)) return INVALID_VALUE;
  *out = (uintptr_t)at;
  return OK;
}

API CUresult cuMemHostGetFlags(unsigned *flags, void *at) {
  ENTER(CURRENT);
  struct wp_block block;
  if (!flags) return INVALID_VALUE;
  TRY(block_at((uintptr_t)at, &block));
  if (!is_host(&block)) return INVALID_VALUE;
  *flags = block.flags;
  return OK;
}
