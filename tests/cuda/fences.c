// Where the bytes of a block are, and what faults.
//
// A device has an address space of its own; here it is a different address for the same bytes, one that faults when the
// host follows it. Copies translate it, launches translate what their kernels are given. With WATCHPOST_SOFT_PAGES=1 a
// block moreover ends at a page that faults, within the 256 bytes that CUDA rounds to, so that reading too far is found
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
// Where a process maps its memory this bit is set or clear throughout; the other half is nobody's.
#define OTHER_SIDE ((uintptr_t)1 << 46)

static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

bool wp_fence_map(struct wp_block *block) {
  if (wp_settings()->pages) {
    size_t page = page_size(), rounded = (block->size + ROUNDED - 1) / ROUNDED * ROUNDED;
    size_t body = (rounded + page - 1) / page * page;
    char *map = mmap(NULL, body + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) return false;
    if (mprotect(map + page, body, PROT_READ | PROT_WRITE)) {
      munmap(map, body + 2 * page);
      return false;
    }
    block->map = map;
    block->mapped = body + 2 * page;
    block->first = map + page;
    block->limit = block->first + body;
    block->data = block->limit - rounded;
  } else {
    size_t rounded = (block->size + WP_ALIGNMENT - 1) / WP_ALIGNMENT * WP_ALIGNMENT;
    block->first = aligned_alloc(WP_ALIGNMENT, GUARD + rounded + GUARD);
    if (!block->first) return false;
    block->data = block->first + GUARD;
    block->limit = block->data + rounded + GUARD;
  }
  block->at = (uintptr_t)block->data;
  if (block->where == DEVICE && wp_settings()->fence) block->at ^= OTHER_SIDE;
  return true;
}

void wp_fence_close(struct wp_block *block) {
  if (block->map) mprotect(block->map, block->mapped, PROT_NONE);
}

void wp_fence_unmap(struct wp_block *block) {
  if (block->map) munmap(block->map, block->mapped);
  else free(block->first);
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
    if (block->at != data && fault - block->at < block->size) {
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
