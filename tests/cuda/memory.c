// Memory: device, managed, pinned and registered, each block between guard zones and known by its address.
//
// In: sizes and addresses. Out: addresses; what lies where, for copies and launches to check.
// Fresh memory is filled with 0xCD and freed memory with 0xDD, so that reading what was never written shows. A freed
// block is kept for a while: using it is told by name, and having written into it is found when it finally goes.
// Who owns: the caller frees a block; the end of its context takes along what is left, but for host memory.
// What fails: beyond WATCHPOST_SOFT_MEMORY it is OUT_OF_MEMORY; a damaged guard zone aborts and names the allocation.
#include "soft.h"

#include <stdio.h>

#define ALIGNMENT 512
#define GUARD 512
#define FRESH 0xCD
#define FREED 0xDD
#define KEPT_BYTES (64u << 20)
#define KEPT_BLOCKS 512

static struct wp_block **blocks;   // by address, live and kept
static size_t block_count, block_room;
static struct wp_block *kept[KEPT_BLOCKS];   // a ring, oldest first
static size_t kept_first, kept_count, kept_bytes;
static uint64_t last_number;
static size_t device_used[16], device_total, device_peak, host_total, host_peak;

// ---- The table, under wp_lock

// The place of the first block that begins above `at`.
static size_t above(uintptr_t at) {
  size_t low = 0, high = block_count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (blocks[middle]->at <= at) low = middle + 1;
    else high = middle;
  }
  return low;
}

struct wp_block *wp_find(uintptr_t at) {
  size_t place = above(at);
  if (!place) return NULL;
  struct wp_block *block = blocks[place - 1];
  return at - block->at < block->size ? block : NULL;
}

static void insert(struct wp_block *block) {
  if (block_count == block_room) {
    block_room = block_room * 2 + 64;
    blocks = realloc(blocks, block_room * sizeof *blocks);
    if (!blocks) wp_abort("no memory for the table of blocks");
  }
  size_t place = above(block->at);
  memmove(blocks + place + 1, blocks + place, (block_count++ - place) * sizeof *blocks);
  blocks[place] = block;
}

static void forget(struct wp_block *block) {
  size_t place = above(block->at);
  while (blocks[place - 1] != block) place--;
  memmove(blocks + place - 1, blocks + place, (block_count-- - place) * sizeof *blocks);
}

static void describe(const struct wp_block *block, char *out, size_t room) {
  snprintf(out, room, "allocation #%llu (%s, %zu bytes)", (unsigned long long)block->number, block->by, block->size);
}

// ---- Guard zones

static unsigned char guard(size_t place) { return (unsigned char)(0xA5 ^ place * 29); }

static size_t tail(const struct wp_block *block) {
  return GUARD + (ALIGNMENT - block->size % ALIGNMENT) % ALIGNMENT;
}

static void lay_guards(struct wp_block *block) {
  for (size_t i = 0; i < GUARD; i++) block->base[i] = (char)guard(i);
  char *after = (char *)block->at + block->size;
  for (size_t i = 0; i < tail(block); i++) after[i] = (char)guard(i);
}

static void check_guards(const struct wp_block *block) {
  if (!block->base) return;
  char name[120];
  describe(block, name, sizeof name);
  const unsigned char *after = (const unsigned char *)block->at + block->size;
  for (size_t i = 0; i < tail(block); i++) {
    if (after[i] != guard(i)) wp_abort("overrun: %s was written %zu bytes past its end", name, i + 1);
  }
  for (size_t i = GUARD; i-- > 0;) {
    if ((unsigned char)block->base[i] != guard(i)) {
      wp_abort("underrun: %s was written %zu bytes before its start", name, GUARD - i);
    }
  }
  if (!block->freed) return;
  const unsigned char *bytes = (const unsigned char *)block->at;
  for (size_t i = 0; i < block->size; i++) {
    if (bytes[i] != FREED) wp_abort("write after free: %s was written at byte %zu after it was freed", name, i);
  }
}

void wp_check_guards(void) {
  for (size_t i = 0; i < block_count; i++) check_guards(blocks[i]);
}

// ---- Making and freeing

static enum wp_kind kind_of(const struct wp_block *block) {
  return block->where == PINNED ? HOST_ALLOCATIONS : block->where == REGISTERED ? HOST_REGISTRATIONS : ALLOCATIONS;
}

static bool on_device(const struct wp_block *block) { return block->where == DEVICE || block->where == MANAGED; }

static CUresult make(size_t size, enum wp_where where, CUcontext context, unsigned flags, const char *by, uintptr_t *at) {
  if (!at || !size) return INVALID_VALUE;
  if (size > SIZE_MAX / 2) return OUT_OF_MEMORY;
  struct wp_block *block = calloc(1, sizeof *block);
  if (!block) return OUT_OF_MEMORY;
  *block = (struct wp_block){.size = size, .where = where, .context = context, .device = context->device, .flags = flags, .by = by};
  if (where == REGISTERED) block->at = *at;
  pthread_mutex_lock(&wp_lock);
  CUresult result = OK;
  if (on_device(block) && size > wp_settings()->memory - device_used[block->device]) result = OUT_OF_MEMORY;
  if (!result && where != REGISTERED) {
    block->base = aligned_alloc(ALIGNMENT, GUARD + size + tail(block));
    if (!block->base) result = OUT_OF_MEMORY;
    block->at = (uintptr_t)block->base + GUARD;
  }
  if (!result) {
    block->number = ++last_number;
    insert(block);
    wp_born(kind_of(block));
    if (on_device(block)) {
      device_used[block->device] += size;
      device_total += size;
      if (device_total > device_peak) device_peak = device_total;
    } else {
      host_total += size;
      if (host_total > host_peak) host_peak = host_total;
    }
    if (block->base) {
      lay_guards(block);
      memset((char *)block->at, FRESH, size);
    }
    *at = block->at;
  }
  pthread_mutex_unlock(&wp_lock);
  if (result) free(block);
  return result;
}

static void discard_oldest(void) {
  struct wp_block *block = kept[kept_first];
  kept_first = (kept_first + 1) % KEPT_BLOCKS;
  kept_count--;
  kept_bytes -= block->size;
  check_guards(block);
  forget(block);
  free(block->base);
  free(block);
}

// Under wp_lock.
static void end(struct wp_block *block, bool reclaimed) {
  check_guards(block);
  wp_gone(kind_of(block), reclaimed);
  if (on_device(block)) {
    device_used[block->device] -= block->size;
    device_total -= block->size;
  } else {
    host_total -= block->size;
  }
  if (!block->base) {
    forget(block);
    free(block);
    return;
  }
  block->freed = true;
  memset((char *)block->at, FREED, block->size);
  if (kept_count == KEPT_BLOCKS) discard_oldest();
  kept[(kept_first + kept_count++) % KEPT_BLOCKS] = block;
  kept_bytes += block->size;
  while (kept_bytes > KEPT_BYTES) discard_oldest();
}

// Host memory outlives the context it was made in, as its pages belong to the process.
void wp_reclaim_memory(CUcontext context) {
  for (size_t i = 0; i < block_count;) {
    struct wp_block *block = blocks[i];
    if (block->context == context && on_device(block) && !block->freed) {
      end(block, true);
      i = 0;
    } else {
      i++;
    }
  }
}

void wp_memory_books(size_t *device, size_t *most_device, size_t *host, size_t *most_host) {
  *device = device_total;
  *most_device = device_peak;
  *host = host_total;
  *most_host = host_peak;
}

// A live block of that kind that begins exactly there, or NULL and what is wrong, said.
static struct wp_block *to_free(uintptr_t at, bool device, bool registered, const char *by, char *wrong, size_t room) {
  struct wp_block *block = wp_find(at);
  if (block && block->at == at && !block->freed && on_device(block) == device &&
      (block->where == REGISTERED) == registered) {
    return block;
  }
  char name[120] = "";
  if (block) describe(block, name, sizeof name);
  if (!block) snprintf(wrong, room, "%s: %#zx is nothing that was allocated", by, (size_t)at);
  else if (block->freed) snprintf(wrong, room, "%s: %s was freed before", by, name);
  else snprintf(wrong, room, "%s: %#zx is inside %s, and not its to free", by, (size_t)at, name);
  return NULL;
}

static CUresult release(uintptr_t at, bool device, bool registered, const char *by, bool drain) {
  char wrong[200];
  pthread_mutex_lock(&wp_lock);
  struct wp_block *block = to_free(at, device, registered, by, wrong, sizeof wrong);
  if (block && drain) {
    // cuMemFree waits for the device; whoever else freed it meanwhile made a double free of this one.
    if (block->context->alive) wp_drain(block->context);
    block = to_free(at, device, registered, by, wrong, sizeof wrong);
  }
  if (block) end(block, false);
  pthread_mutex_unlock(&wp_lock);
  if (!block) wp_misuse("%s", wrong);
  return block ? OK : registered ? HOST_NOT_REGISTERED : INVALID_VALUE;
}

// ---- What others ask

CUresult wp_range(const char *what, uintptr_t at, size_t size, bool for_device, enum wp_where *where) {
  char name[120] = "";
  bool freed = false, beyond = false;
  pthread_mutex_lock(&wp_lock);
  struct wp_block *block = wp_find(at);
  *where = block ? block->where : PAGEABLE;
  if (block) {
    describe(block, name, sizeof name);
    freed = block->freed;
    beyond = size > block->size - (at - block->at);
  }
  pthread_mutex_unlock(&wp_lock);
  if (!block && for_device) wp_misuse("%s: %#zx is no memory of the device", what, (size_t)at);
  if (freed) wp_misuse("%s: %s was freed before", what, name);
  else if (beyond) wp_misuse("%s: %zu bytes reach beyond %s", what, size, name);
  return freed || beyond || (!block && for_device) ? INVALID_VALUE : OK;
}

bool wp_is_freed(uintptr_t at, char *name, size_t room) {
  pthread_mutex_lock(&wp_lock);
  struct wp_block *block = wp_find(at);
  bool freed = block && block->freed;
  if (freed) describe(block, name, room);
  pthread_mutex_unlock(&wp_lock);
  return freed;
}

// ---- Device memory

API CUresult cuMemAlloc_v2(CUdeviceptr *at, size_t size) {
  ENTER(CURRENT);
  return make(size, DEVICE, wp_current(), 0, __func__, (uintptr_t *)at);
}

API CUresult cuMemAllocPitch_v2(CUdeviceptr *at, size_t *pitch, size_t width, size_t height, unsigned element) {
  ENTER(CURRENT);
  if (!pitch || !width || !height || (element != 4 && element != 8 && element != 16)) return INVALID_VALUE;
  *pitch = (width + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  return make(*pitch * height, DEVICE, wp_current(), 0, __func__, (uintptr_t *)at);
}

API CUresult cuMemAllocManaged(CUdeviceptr *at, size_t size, unsigned flags) {
  ENTER(CURRENT);
  return flags != 1 && flags != 2 ? INVALID_VALUE : make(size, MANAGED, wp_current(), flags, __func__, (uintptr_t *)at);
}

API CUresult cuMemFree_v2(CUdeviceptr at) {
  ENTER(CURRENT);
  return at ? release(at, true, false, __func__, true) : OK;
}

// The memory is there at once; a stream orders who may use it, and only its freeing is work.
API CUresult cuMemAllocAsync(CUdeviceptr *at, size_t size, CUstream given) {
  ENTER(INIT);
  struct wp_stream *stream;
  TRY(wp_stream(given, &stream));
  return make(size, DEVICE, stream->handle.context, 0, __func__, (uintptr_t *)at);
}

API CUresult cuMemAllocFromPoolAsync(CUdeviceptr *at, size_t size, CUmemoryPool pool, CUstream given) {
  ENTER(INIT);
  struct wp_stream *stream;
  if (!wp_handle_is(pool, MARK_POOL)) return INVALID_VALUE;
  TRY(wp_stream(given, &stream));
  return make(size, DEVICE, stream->handle.context, 0, __func__, (uintptr_t *)at);
}

struct freeing { struct wp_work work; uintptr_t at; };

static void free_now(struct wp_work *work) { release(((struct freeing *)work)->at, true, false, "cuMemFreeAsync", false); }

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
  size_t left = wp_settings()->memory - device_used[wp_current()->device];
  pthread_mutex_unlock(&wp_lock);
  if (free_bytes) *free_bytes = left;
  if (total) *total = wp_settings()->memory;
  return OK;
}

// ---- Host memory that the device reaches: its device address is its own.

API CUresult cuMemHostAlloc(void **at, size_t size, unsigned flags) {
  ENTER(CURRENT);
  return flags > 7 ? INVALID_VALUE : make(size, PINNED, wp_current(), flags, __func__, (uintptr_t *)at);
}

API CUresult cuMemAllocHost_v2(void **at, size_t size) {
  ENTER(CURRENT);
  return make(size, PINNED, wp_current(), 0, __func__, (uintptr_t *)at);
}

API CUresult cuMemFreeHost(void *at) {
  ENTER(CURRENT);
  return at ? release((uintptr_t)at, false, false, __func__, true) : OK;
}

API CUresult cuMemHostRegister_v2(void *at, size_t size, unsigned flags) {
  ENTER(CURRENT);
  if (!at || !size || flags > 15) return INVALID_VALUE;
  uintptr_t start = (uintptr_t)at;
  pthread_mutex_lock(&wp_lock);
  bool known = wp_find(start) || wp_find(start + size - 1);
  pthread_mutex_unlock(&wp_lock);
  return known ? HOST_ALREADY_REGISTERED : make(size, REGISTERED, wp_current(), flags, __func__, &start);
}
API CUresult cuMemHostRegister(void *at, size_t size, unsigned flags) __attribute__((alias("cuMemHostRegister_v2")));

API CUresult cuMemHostUnregister(void *at) {
  ENTER(CURRENT);
  return release((uintptr_t)at, false, true, __func__, true);
}
