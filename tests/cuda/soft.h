// What the files of the software CUDA driver share. The driver is a libcuda.so.1 for tests: device memory is host memory,
// kernels are functions built for the host, and everything is counted.
//
// In: the types of the CUDA driver API as its header lays them out (only those used here), WATCHPOST_SOFT_* variables.
// Out: the declarations below; what is exported is marked API, everything else stays hidden in the library.
// Who owns: the driver owns every handle. A handle's memory is never given back, so a stale one is told, not followed.
// What fails: calls return CUDA's own codes. Misuse that a real driver would let pass is said on stderr and counted.
#ifndef WATCHPOST_SOFT_H
#define WATCHPOST_SOFT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define API __attribute__((visibility("default")))

typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct wp_context *CUcontext;
typedef struct wp_stream *CUstream;
typedef struct wp_event *CUevent;
typedef struct wp_module *CUmodule;
typedef struct wp_function *CUfunction;
typedef struct wp_pool *CUmemoryPool;
typedef struct { char bytes[16]; } CUuuid;

enum {
  OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101,
  INVALID_IMAGE = 200, INVALID_CONTEXT = 201, NO_BINARY_FOR_GPU = 209, UNSUPPORTED_PTX_VERSION = 222,
  FILE_NOT_FOUND = 301, INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600, ILLEGAL_ADDRESS = 700,
  PRIMARY_CONTEXT_ACTIVE = 708, CONTEXT_IS_DESTROYED = 709, HOST_ALREADY_REGISTERED = 712, HOST_NOT_REGISTERED = 713,
  LAUNCH_FAILED = 719, NOT_SUPPORTED = 801,
};

// ---- Settings (settings.c): read once, from the environment, at the first call.

struct wp_settings {
  int devices;             // WATCHPOST_SOFT_DEVICES, 1
  size_t memory;           // WATCHPOST_SOFT_MEMORY, bytes a device, 2 GiB
  int version;             // WATCHPOST_SOFT_VERSION, 12080
  int capability;          // WATCHPOST_SOFT_CAPABILITY, 75: compute capability 7.5
  bool async;              // WATCHPOST_SOFT_ASYNC=1: a worker for each stream
  long delay_us;           // WATCHPOST_SOFT_DELAY_US, 2000: how long a worker dawdles while nobody waits for it
  bool strict;             // WATCHPOST_SOFT_STRICT=1: misuse aborts
  bool fence;              // WATCHPOST_SOFT_FENCE, 1: an address of the device faults when the host follows it
  bool pages;              // WATCHPOST_SOFT_PAGES=1: allocations end at a page that faults, freed ones fault whole
  const char *kernels;     // WATCHPOST_SOFT_KERNELS
  const char *report;      // WATCHPOST_SOFT_REPORT, %p is the process id
};
const struct wp_settings *wp_settings(void);

// ---- The way into every function (faults.c): counts the call, injects a fault, checks what the call needs.

enum { ANY = 0, INIT = 1, CURRENT = 2 };   // needs nothing; needs cuInit; needs a healthy current context too
struct wp_site { const char *name; atomic_long calls; atomic_bool listed; struct wp_site *next; };
CUresult wp_enter(struct wp_site *site, const char *name, int needs);
#define ENTER(needs)                                              \
  do {                                                            \
    static struct wp_site site_;                                  \
    CUresult entered_ = wp_enter(&site_, __func__, (needs));      \
    if (entered_) return entered_;                                \
  } while (0)
#define TRY(call) do { CUresult tried_ = (call); if (tried_) return tried_; } while (0)
extern atomic_bool wp_initialized;
struct wp_site *wp_sites(void);
long wp_faults_injected(void);
bool wp_is_sticky(CUresult code);

// ---- Books (books.c). `wp_lock` guards the books and every table; kernels and copies run without it.

extern pthread_mutex_t wp_lock;
enum wp_kind { CONTEXTS, STREAMS, EVENTS, MODULES, POOLS, ALLOCATIONS, HOST_ALLOCATIONS, HOST_REGISTRATIONS, KINDS };
enum wp_direction { HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE, HOST_TO_HOST, DIRECTIONS };
#define DEVICES 16                                                  // at most
void wp_born(enum wp_kind kind, CUdevice device);                   // under wp_lock, as the next two
void wp_gone(enum wp_kind kind, CUdevice device, bool reclaimed);   // reclaimed: nobody freed it, its context took it along
void wp_launched(const char *kernel, CUdevice device);
void wp_copied(enum wp_direction direction, size_t bytes);
void wp_primary(bool retained, CUdevice device);
void wp_misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));   // not under wp_lock
void wp_abort(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

// A growing string for reports; a failed allocation aborts.
struct wp_text { char *at; size_t length, room; };
void wp_print(struct wp_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

// ---- Handles: each begins with this, is told by its mark, and hangs in its context's list while alive.

#define MARK_STREAM 0x5354524du
#define MARK_EVENT 0x45564e54u
#define MARK_MODULE 0x4d4f4455u
#define MARK_FUNCTION 0x46554e43u
#define MARK_POOL 0x504f4f4cu
#define MARK_CONTEXT 0x43545854u
#define MARK_DEAD 0xdeadu
struct wp_handle {
  unsigned mark;
  enum wp_kind kind;
  struct wp_context *context;
  struct wp_handle *next, **link;
};
void *wp_handle_new(size_t size, unsigned mark, enum wp_kind kind, struct wp_context *context);
bool wp_handle_is(const void *handle, unsigned mark);
void wp_handle_end(struct wp_handle *handle, bool reclaimed);   // under wp_lock

// ---- Contexts (contexts.c)

struct wp_stream {
  struct wp_handle handle;
  unsigned flags;
  int priority;
  uint64_t submitted, completed;    // in order: work n is done when completed >= n
  int waiters;                      // who waits hurries the worker
  pthread_cond_t changed;
  struct wp_work *first, **last;    // the worker's queue
  pthread_t worker;
  bool started, closing, finished;
  struct wp_stream *sibling;        // all of a context that may still have a worker, destroyed ones too
};

struct wp_context {
  unsigned mark;
  unsigned flags;
  CUdevice device;
  bool primary, alive;
  int references;                   // of a primary context
  uint64_t id;
  atomic_int sticky;                // the error that every later call gets
  struct wp_handle *handles;
  struct wp_stream null_stream;     // the legacy default stream; not in the books
  struct wp_stream *streams;
  size_t limits[16];
  int cache_config;
};
CUcontext wp_current(void);
CUcontext wp_adopt(CUcontext given, CUresult *problem);   // a context handle that a caller passed: alive and healthy?
CUresult wp_usable(const void *handle, unsigned mark);        // any other handle: of this kind, and its context likewise?
void wp_sicken(CUcontext context, CUresult code);         // a sticky error

// ---- Work (work.c)

struct wp_dependency { struct wp_stream *stream; uint64_t until; };
struct wp_work {
  struct wp_work *next;
  void (*run)(struct wp_work *);    // without wp_lock; not called on a context with a sticky error, but for `always`
  void (*numbered)(struct wp_work *);   // under wp_lock, once stream and number are set; may be NULL
  bool always;
  struct wp_stream *stream;
  uint64_t number;
  size_t dependencies;
  struct wp_dependency *on;
};
void *wp_work_new(size_t size, void (*run)(struct wp_work *));
// Takes the work over (it is freed once it ran). Runs it at once, or hands it to the worker and, if told, waits.
CUresult wp_submit(CUstream stream, struct wp_work *work, bool wait);
void wp_depend(struct wp_work *work, struct wp_stream *stream, uint64_t until);
CUresult wp_stream(CUstream given, struct wp_stream **stream);  // streams.c: resolves 0, legacy and per-thread
void wp_wait(struct wp_stream *stream, uint64_t until);         // under wp_lock
void wp_drain(CUcontext context);                               // under wp_lock: all its streams
void wp_stop_workers(CUcontext context);                        // not under wp_lock; after a drain
void wp_reap_workers(CUcontext context);                        // under wp_lock: joins those of destroyed streams
void wp_stream_ready(struct wp_stream *stream, CUcontext context);

// ---- Memory (blocks.c). A block is any memory the driver knows; freed ones stay known for a while.

enum wp_where { PAGEABLE, DEVICE, MANAGED, PINNED, REGISTERED };
struct wp_block {
  uintptr_t at;                     // as the caller knows it; of device memory not where the bytes are
  size_t size;
  char *data;                       // the bytes
  char *first, *limit;              // what is the driver's own around them: guard zones; NULL of registered memory
  char *map;                        // if it has pages of its own: they, with those at the edges that fault
  size_t mapped;
  char *alias;                      // the same pages at the addresses of the device, which fault but for kernels
  bool open;
  enum wp_where where;
  CUcontext context;
  CUdevice device;
  unsigned flags;
  uint64_t number;
  const char *by;                   // the call that made it
  bool freed;
};
enum { WP_ALIGNMENT = 512 };
// For registered memory `at` comes in, else it goes out.
CUresult wp_make(size_t size, enum wp_where where, CUcontext context, unsigned flags, const char *by, uintptr_t *at);
// device: what cuMemFree frees; registered: what cuMemHostUnregister ends; neither: pinned memory. drain: wait first.
CUresult wp_release(uintptr_t at, bool device, bool registered, const char *by, bool drain);
struct wp_block *wp_find(uintptr_t at);            // under wp_lock; also a freed one
// Is [at, at + size) inside one live block? Else says so as misuse of `what` and gives INVALID_VALUE. Memory that the
// driver does not know is pageable host memory, and a problem only where the device must reach it.
CUresult wp_range(const char *what, uintptr_t at, size_t size, bool for_device, enum wp_where *where);
// Where the bytes of an address are. NULL and a name for a message: it lies in a freed block.
char *wp_bytes(uintptr_t at, char *name, size_t room);
void wp_describe(const struct wp_block *block, char *out, size_t room);
bool wp_on_device(enum wp_where where);
void wp_reclaim_memory(CUcontext context);         // under wp_lock
void wp_check_guards(void);                        // under wp_lock; aborts at the first damage
void wp_memory_books(size_t *device, size_t *device_peak, size_t *host, size_t *host_peak);   // under wp_lock
size_t wp_memory_left(CUdevice device);            // under wp_lock
struct wp_block *const *wp_blocks(size_t *count);  // for the handler of faults, which cannot wait for a lock

// ---- Where the bytes are (fences.c)

bool wp_fence_map(struct wp_block *block);         // sets data, first, limit and at; false: no memory
void wp_fence_close(struct wp_block *block);       // freed, but kept
void wp_fence_unmap(struct wp_block *block);
void wp_fence_kernel(bool runs);                   // around a kernel, on its thread
void wp_fence_watch(void);                         // faults get a name from now on

#endif
