// Where the bytes of a block are, and what faults.
//
// A device has an address space of its own; here it is a second mapping of the same pages, which faults when the host
// touches it. Copies translate its addresses, launches those that their kernels are given, and where a kernel follows an
// address that it found in memory, the mapping opens until that kernel ends. With WATCHPOST_SOFT_PAGES=1 a block
// moreover ends at a page that faults, within the 256 bytes that CUDA rounds to, so that reading too far is found
// as well as writing, and a freed block faults whole.
// In: blocks without bytes. Out: blocks with bytes; a name for a fault. Who owns: the block owns its bytes.
// What fails: a fault in or beside a block is said by name and aborts; any other goes to whoever handled faults before.
#include "soft.h"

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define GUARD 512
#define ROUNDED 256

static _Thread_local bool in_kernel;
static bool any_open;   // under wp_lock

static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

static bool map_pages(struct wp_block *block, bool fenced) {
  size_t page = page_size(), edge = wp_settings()->pages ? page : 0;
  size_t rounded = (block->size + ROUNDED - 1) / ROUNDED * ROUNDED;
  size_t body = ((edge ? rounded : GUARD + rounded + GUARD) + page - 1) / page * page;
  // Only shared pages can be mapped twice.
  char *map = mmap(NULL, body + 2 * edge, PROT_NONE, (fenced ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return false;
  block->map = map;
  block->mapped = body + 2 * edge;
  block->first = map + edge;
  block->limit = block->first + body;
  block->data = edge ? block->limit - rounded : block->first + GUARD;
  block->at = (uintptr_t)block->data;
  bool good = true;
  if (fenced) {
    char *alias = mremap(map, 0, block->mapped, MREMAP_MAYMOVE);   // an old size of 0 maps the same pages again
    good = alias != MAP_FAILED;
    if (good) block->alias = alias;
    if (good) block->at = (uintptr_t)alias + (size_t)(block->data - map);
  }
  if (!good || mprotect(block->first, body, PROT_READ | PROT_WRITE)) {
    wp_fence_unmap(block);
    return false;
  }
  return true;
}

bool wp_fence_map(struct wp_block *block) {
  bool fenced = block->where == DEVICE && wp_settings()->fence;
  if (fenced || wp_settings()->pages) return map_pages(block, fenced);
  size_t rounded = (block->size + WP_ALIGNMENT - 1) / WP_ALIGNMENT * WP_ALIGNMENT;
  block->first = aligned_alloc(WP_ALIGNMENT, GUARD + rounded + GUARD);
  if (!block->first) return false;
  block->data = block->first + GUARD;
  block->limit = block->data + rounded + GUARD;
  block->at = (uintptr_t)block->data;
  return true;
}

static void close_alias(struct wp_block *block) {
  if (block->open) mprotect(block->alias, block->mapped, PROT_NONE);
  block->open = false;
}

void wp_fence_close(struct wp_block *block) {
  close_alias(block);
  if (wp_settings()->pages) mprotect(block->map, block->mapped, PROT_NONE);
}

void wp_fence_unmap(struct wp_block *block) {
  if (block->alias) munmap(block->alias, block->mapped);
  if (block->map) munmap(block->map, block->mapped);
  else free(block->first);
}

void wp_fence_kernel(bool runs) {
  in_kernel = runs;
  if (runs) return;
  pthread_mutex_lock(&wp_lock);
  size_t count;
  struct wp_block *const *blocks = wp_blocks(&count);
  // Another kernel that still reads one of them faults again and opens it again.
  for (size_t i = 0; any_open && i < count; i++) close_alias(blocks[i]);
  any_open = false;
  pthread_mutex_unlock(&wp_lock);
}

// A kernel followed an address of the device. It holds no lock, so this may take one, in a handler as it is.
static bool open_for_kernel(uintptr_t fault) {
  if (!in_kernel) return false;
  pthread_mutex_lock(&wp_lock);
  size_t count;
  struct wp_block *const *blocks = wp_blocks(&count);
  bool opened = false;
  for (size_t i = 0; i < count && !opened; i++) {
    struct wp_block *block = blocks[i];
    uintptr_t first = (uintptr_t)block->alias + (size_t)(block->first - block->map);
    size_t body = (size_t)(block->limit - block->first);
    if (!block->alias || block->freed || fault - first >= body) continue;
    opened = !mprotect((void *)first, body, PROT_READ | PROT_WRITE);
    block->open = any_open = opened;
  }
  pthread_mutex_unlock(&wp_lock);
  return opened;
}

// ---- A fault gets a name

static struct sigaction before[2];

static bool name_fault(uintptr_t fault, char *text, size_t room) {
  size_t count;
  struct wp_block *const *blocks = wp_blocks(&count);
  for (size_t i = 0; i < count; i++) {
    const struct wp_block *block = blocks[i];
    uintptr_t data = (uintptr_t)block->data, map = (uintptr_t)block->map;
    char name[120];
    wp_describe(block, name, sizeof name);
    uintptr_t alias = (uintptr_t)block->alias;
    if (alias && fault - alias < block->mapped && (block->freed || in_kernel)) {
      fault = fault - alias + map;   // a kernel's own fault is told like one of the bytes
    }
    if (alias && fault - block->at < block->size) {
      snprintf(text, room, "the host touched device memory: byte %zu of %s", (size_t)(fault - block->at), name);
    } else if (!block->map || fault - map >= block->mapped) {
      continue;
    } else if (block->freed) {
      snprintf(text, room, "use after free: %s was touched at byte %td", name, (ptrdiff_t)(fault - data));
    } else if (fault < data) {
      snprintf(text, room, "underrun: %s was touched %zu bytes before its start", name, (size_t)(data - fault));
    } else {
      snprintf(text, room, "overrun: %s was touched %zu bytes past its end", name, (size_t)(fault - data) - block->size + 1);
    }
    return true;
  }
  return false;
}

static void on_fault(int signal, siginfo_t *info, void *context) {
  if (open_for_kernel((uintptr_t)info->si_addr)) return;
  char text[300] = "software CUDA driver: ";
  size_t length = strlen(text);
  // Without the lock: the thread that faults may hold it, and nothing will be right again anyway.
  if (name_fault((uintptr_t)info->si_addr, text + length, sizeof text - length - 1)) {
    strcat(text, "\n");
    if (write(STDERR_FILENO, text, strlen(text)) < 0) _exit(134);
    abort();
  }
  const struct sigaction *old = &before[signal == SIGBUS];
  if (old->sa_flags & SA_SIGINFO && old->sa_sigaction) {
    old->sa_sigaction(signal, info, context);
  } else {
    sigaction(signal, old, NULL);   // and the instruction faults again
  }
}

static void install(void) {
  struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK};
  action.sa_sigaction = on_fault;
  sigemptyset(&action.sa_mask);
  sigaction(SIGSEGV, &action, &before[0]);
  sigaction(SIGBUS, &action, &before[1]);
}

void wp_fence_watch(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  if (wp_settings()->fence || wp_settings()->pages) pthread_once(&once, install);
}
