// Allocation: device, managed, pinned and registered memory, as the CUDA driver API has it.
//
// In: sizes, addresses, streams. Out: addresses; the blocks behind them are in blocks.c.
// Who owns: the caller frees what it made; the end of a context takes along its device memory.
// What fails: beyond WATCHPOST_SOFT_MEMORY it is OUT_OF_MEMORY; freeing what is no allocation is said, and INVALID_VALUE.
#include "soft.h"

// ---- Device memory

API CUresult cuMemAlloc_v2(CUdeviceptr *at, size_t size) {
  ENTER(CURRENT);
  return wp_make(size, DEVICE, wp_current(), 0, __func__, (uintptr_t *)at);
}

API CUresult cuMemAllocPitch_v2(CUdeviceptr *at, size_t *pitch, size_t width, size_t height, unsigned element) {
  ENTER(CURRENT);
  if (!pitch || !width || !height || (element != 4 && element != 8 && element != 16)) return INVALID_VALUE;
  *pitch = (width + WP_ALIGNMENT - 1) / WP_ALIGNMENT * WP_ALIGNMENT;
  return wp_make(*pitch * height, DEVICE, wp_current(), 0, __func__, (uintptr_t *)at);
}

API CUresult cuMemAllocManaged(CUdeviceptr *at, size_t size, unsigned flags) {
  ENTER(CURRENT);
  return flags != 1 && flags != 2 ? INVALID_VALUE : wp_make(size, MANAGED, wp_current(), flags, __func__, (uintptr_t *)at);
}

// Advice where managed memory should lie, as a type and an id in eight bytes: it lies where it lies.
API CUresult cuMemAdvise_v2(CUdeviceptr at, size_t size, int advice, uint64_t location) {
  ENTER(INIT);
  (void)advice, (void)location;
  enum wp_where where;
  return wp_range(__func__, at, size, true, &where);
}

API CUresult cuMemPrefetchAsync_v2(CUdeviceptr at, size_t size, uint64_t location, unsigned flags, CUstream given) {
  ENTER(INIT);
  (void)location, (void)flags;
  struct wp_stream *stream;
  enum wp_where where;
  TRY(wp_stream(given, &stream));
  return wp_range(__func__, at, size, true, &where);
}

API CUresult cuMemFree_v2(CUdeviceptr at) {
  ENTER(CURRENT);
  return at ? wp_release(at, true, false, __func__, true) : OK;
}

// The memory is there at once; a stream orders who may use it, and only its freeing is work.
API CUresult cuMemAllocAsync(CUdeviceptr *at, size_t size, CUstream given) {
  ENTER(INIT);
  struct wp_stream *stream;
  TRY(wp_stream(given, &stream));
  return wp_make(size, DEVICE, stream->handle.context, 0, __func__, (uintptr_t *)at);
}

API CUresult cuMemAllocFromPoolAsync(CUdeviceptr *at, size_t size, CUmemoryPool pool, CUstream given) {
  ENTER(INIT);
  struct wp_stream *stream;
  if (!wp_handle_is(pool, MARK_POOL)) return INVALID_VALUE;
  TRY(wp_stream(given, &stream));
  return wp_make(size, DEVICE, stream->handle.context, 0, __func__, (uintptr_t *)at);
}

struct freeing { struct wp_work work; uintptr_t at; };

static void free_now(struct wp_work *work) { wp_release(((struct freeing *)work)->at, true, false, "cuMemFreeAsync", false); }

API CUresult cuMemFreeAsync(CUdeviceptr at, CUstream given) {
  ENTER(INIT);
  struct wp_stream *stream;
  enum wp_where where;
  TRY(wp_stream(given, &stream));
  if (!at) return OK;
  TRY(wp_range(__func__, at, 1, true, &where));
  struct freeing *freeing = wp_work_new(sizeof *freeing, free_now);
  freeing->at = at;
  return wp_submit(stream, &freeing->work, false);
}

API CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
  ENTER(CURRENT);
  pthread_mutex_lock(&wp_lock);
  size_t left = wp_memory_left(wp_current()->device);
  pthread_mutex_unlock(&wp_lock);
  if (free_bytes) *free_bytes = left;
  if (total) *total = wp_settings()->memory;
  return OK;
}

// ---- Host memory that the device reaches: its device address is its own.

API CUresult cuMemHostAlloc(void **at, size_t size, unsigned flags) {
  ENTER(CURRENT);
  return flags > 7 ? INVALID_VALUE : wp_make(size, PINNED, wp_current(), flags, __func__, (uintptr_t *)at);
}

API CUresult cuMemAllocHost_v2(void **at, size_t size) {
  ENTER(CURRENT);
  return wp_make(size, PINNED, wp_current(), 0, __func__, (uintptr_t *)at);
}

API CUresult cuMemFreeHost(void *at) {
  ENTER(CURRENT);
  return at ? wp_release((uintptr_t)at, false, false, __func__, true) : OK;
}

API CUresult cuMemHostRegister_v2(void *at, size_t size, unsigned flags) {
  ENTER(CURRENT);
  if (!at || !size || flags > 15) return INVALID_VALUE;
  uintptr_t start = (uintptr_t)at;
  pthread_mutex_lock(&wp_lock);
  bool known = wp_find(start) || wp_find(start + size - 1);
  pthread_mutex_unlock(&wp_lock);
  return known ? HOST_ALREADY_REGISTERED : wp_make(size, REGISTERED, wp_current(), flags, __func__, &start);
}
API CUresult cuMemHostRegister(void *at, size_t size, unsigned flags) __attribute__((alias("cuMemHostRegister_v2")));

API CUresult cuMemHostUnregister(void *at) {
  ENTER(CURRENT);
  return wp_release((uintptr_t)at, false, true, __func__, true);
}
