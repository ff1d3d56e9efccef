// Blocks of memory: a table of what lies where, with guard zones around each, and those freed kept for a while.
//
// In: sizes and addresses from memory.c. Out: addresses; what lies where, for copies and launches to check.
// Fresh memory is filled with 0xCD and freed memory with 0xDD, so that reading what was never written shows. A freed
// block is kept for a while: using it is told by name, and having written into it is found when it finally goes.
// Who owns: this file owns the table, under wp_lock; a block lives until it is freed and then until newer ones push it out.
// What fails: a damaged guard zone aborts and names the allocation.
#include "soft.h"

#include <stdio.h>

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

void wp_describe(const struct wp_block *block, char *out, size_t room) {
  snprintf(out, room, "allocation #%llu (%s, %zu bytes)", (unsigned long long)block->number, block->by, block->size);
}

// ---- Guard zones

static unsigned char guard(size_t place) { return (unsigned char)(0xA5 ^ place * 29); }

static void lay_guards(struct wp_block *block) {
  for (char *at = block->first; at < block->data; at++) *at = (char)guard((size_t)(block->data - at));
  for (char *at = block->data + block->size; at < block->limit; at++) *at = (char)guard((size_t)(at - block->data));
}

static void check_guards(const struct wp_block *block) {
  if (!block->first || (block->freed && wp_settings()->pages)) return;   // pages of a freed block fault by themselves
  char name[120];
  wp_describe(block, name, sizeof name);
  for (const char *at = block->data + block->size; at < block->limit; at++) {
    if ((unsigned char)*at != guard((size_t)(at - block->data))) {
      wp_abort("overrun: %s was written %zu bytes past its end", name, (size_t)(at - block->data) - block->size + 1);
    }
  }
  for (const char *at = block->data; at-- > block->first;) {
    if ((unsigned char)*at != guard((size_t)(block->data - at))) {
      wp_abort("underrun: %s was written %zu bytes before its start", name, (size_t)(block->data - at));
    }
  }
  // All bytes are the same when the first is right and each is like the one before it.
  if (!block->freed) return;
  bool whole = (unsigned char)block->data[0] == FREED && !memcmp(block->data, block->data + 1, block->size - 1);
  for (size_t i = 0; !whole && i < block->size; i++) {
    if ((unsigned char)block->data[i] != FREED) {
      wp_abort("write after free: %s was written at byte %zu after it was freed", name, i);
    }
  }
}

void wp_check_guards(void) {
  for (size_t i = 0; i < block_count; i++) check_guards(blocks[i]);
}

// ---- Making and freeing

static enum wp_kind kind_of(const struct wp_block *block) {
  return block->where == PINNED ? HOST_ALLOCATIONS : block->where == REGISTERED ? HOST_REGISTRATIONS : ALLOCATIONS;
}

bool wp_on_device(enum wp_where where) { return where == DEVICE || where == MANAGED; }
static bool on_device(const struct wp_block *block) { return wp_on_device(block->where); }

CUresult wp_make(size_t size, enum wp_where where, CUcontext context, unsigned flags, const char *by, uintptr_t *at) {
  if (!at || !size) return INVALID_VALUE;
  if (size > SIZE_MAX / 2) return OUT_OF_MEMORY;
  struct wp_block *block = calloc(1, sizeof *block);
  if (!block) return OUT_OF_MEMORY;
  *block = (struct wp_block){.size = size, .where = where, .context = context, .flags = flags, .by = by};
  block->device = context->device;
  if (where == REGISTERED) block->data = (char *)(block->at = *at);
  pthread_mutex_lock(&wp_lock);
  CUresult result = OK;
  if (on_device(block) && size > wp_settings()->memory - device_used[block->device]) result = OUT_OF_MEMORY;
  if (!result && where != REGISTERED && !wp_fence_map(block)) result = OUT_OF_MEMORY;
  if (!result) {
    block->number = ++last_number;
    insert(block);
    wp_born(kind_of(block), block->device);
    if (on_device(block)) {
      device_used[block->device] += size;
      device_total += size;
      if (device_total > device_peak) device_peak = device_total;
    } else {
      host_total += size;
      if (host_total > host_peak) host_peak = host_total;
    }
    if (block->first) {
      lay_guards(block);
      memset(block->data, FRESH, size);
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
  wp_fence_unmap(block);
  free(block);
}

// Under wp_lock.
static void end(struct wp_block *block, bool reclaimed) {
  check_guards(block);
  wp_gone(kind_of(block), block->device, reclaimed);
  if (on_device(block)) {
    device_used[block->device] -= block->size;
    device_total -= block->size;
  } else {
    host_total -= block->size;
  }
  if (!block->first) {
    forget(block);
    free(block);
    return;
  }
  block->freed = true;
  memset(block->data, FREED, block->size);
  wp_fence_close(block);
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
  if (block) wp_describe(block, name, sizeof name);
  if (!block) snprintf(wrong, room, "%s: %#zx is nothing that was allocated", by, (size_t)at);
  else if (block->freed) snprintf(wrong, room, "%s: %s was freed before", by, name);
  else snprintf(wrong, room, "%s: %#zx is inside %s, and not its to free", by, (size_t)at, name);
  return NULL;
}

CUresult wp_release(uintptr_t at, bool device, bool registered, const char *by, bool drain) {
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
    wp_describe(block, name, sizeof name);
    freed = block->freed;
    beyond = size > block->size - (at - block->at);
  }
  pthread_mutex_unlock(&wp_lock);
  if (!block && for_device) wp_misuse("%s: %#zx is no memory of the device", what, (size_t)at);
  if (freed) wp_misuse("%s: %s was freed before", what, name);
  else if (beyond) wp_misuse("%s: %zu bytes reach beyond %s", what, size, name);
  return freed || beyond || (!block && for_device) ? INVALID_VALUE : OK;
}

char *wp_bytes(uintptr_t at, char *name, size_t room) {
  pthread_mutex_lock(&wp_lock);
  struct wp_block *block = wp_find(at);
  char *bytes = block ? block->data + (at - block->at) : (char *)at;
  if (block && block->freed) {
    wp_describe(block, name, room);
    bytes = NULL;
  }
  pthread_mutex_unlock(&wp_lock);
  return bytes;
}

size_t wp_memory_left(CUdevice device) { return wp_settings()->memory - device_used[device]; }

struct wp_block *const *wp_blocks(size_t *count) {
  *count = block_count;
  return blocks;
}
