// ONNX Runtime with GPU providers, for tests: the real library for the CPU, in front of which this one stands and says that
// CUDA and TensorRT are there. Sessions on them run on the CPU, memory of theirs is the host's, as the software driver has
// it. TensorRT's engines are built as far as anybody can see: slowly, and into the folder that is named.
//
// In: WATCHPOST_SOFT_ONNXRUNTIME, the real library; WATCHPOST_SOFT_GATE, a file: an engine is built once it is there, and
// cannot be where it holds words, which are the error then. Out: OrtGetApiBase; `graph.engine` in the folder of the option
// trt_engine_cache_path. With -DNVINFER this is libnvinfer.so.10 instead, which only has a version.
// Who owns: the table of functions is the real library's, exchanged in its place. Which session options name which folder is kept under a lock.
// What fails: without the real library the process aborts; what the real one refuses it refuses in its own words.
#ifdef NVINFER
__attribute__((visibility("default"))) int getInferLibVersion(void);
int getInferLibVersion(void) { return 101303; }
#else
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// Places in OrtApi, which only ever grows at its end (onnxruntime_c_api.h).
enum {
  CREATE_STATUS = 0, CREATE_SESSION = 7, CREATE_MEMORY_INFO = 68, RELEASE_SESSION_OPTIONS = 100,
  APPEND_TENSORRT = 170, CREATE_TENSORRT = 171, UPDATE_TENSORRT = 172, RELEASE_TENSORRT = 174,
  APPEND_CUDA = 204, CREATE_CUDA = 205, UPDATE_CUDA = 206, RELEASE_CUDA = 208,
  KNOWN,   // what lies behind is left alone
};
typedef void (*function)(void);
struct base { const function *(*api)(uint32_t version); const char *(*version)(void); };
typedef void *status;

static function real[KNOWN];
static const struct base *real_base;
static struct { const void *options; char *folder; } named[64];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static status refuse(const char *words) { return ((status (*)(int, const char *))real[CREATE_STATUS])(1, words); }

// ---- Providers: options are a folder's name or nothing

struct provider { char *folder; };

static status create(struct provider **out) {
  *out = calloc(1, sizeof **out);
  return *out ? NULL : refuse("no memory");
}

static status update(struct provider *provider, const char *const *keys, const char *const *values, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (strcmp(keys[i], "trt_engine_cache_path")) continue;
    free(provider->folder);
    provider->folder = strdup(values[i]);
  }
  return NULL;
}

static void release(struct provider *provider) {
  if (provider) free(provider->folder);
  free(provider);
}

// The folder of session options, which is the caller's from here on.
static char *take(const void *options) {
  char *folder = NULL;
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
    if (!named[i].folder || named[i].options != options) continue;
    free(folder);
    folder = named[i].folder;
    named[i].folder = NULL;
  }
  pthread_mutex_unlock(&lock);
  return folder;
}

static status append_tensorrt(void *options, const struct provider *provider) {
  char here[4096];
  Dl_info self;
  // ONNX Runtime's provider links it.
  if (dladdr((void *)append_tensorrt, &self)) {
    snprintf(here, sizeof here, "%.*slibnvinfer.so.10", (int)(strrchr(self.dli_fname, '/') + 1 - self.dli_fname), self.dli_fname);
    if (!dlopen(here, RTLD_NOW)) return refuse(dlerror());
  }
  if (!provider->folder) return NULL;
  status full = refuse("too many sessions at a time");
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < sizeof named / sizeof *named && full; i++) {
    if (named[i].folder) continue;
    named[i].options = options;
    named[i].folder = strdup(provider->folder);
    full = NULL;
  }
  pthread_mutex_unlock(&lock);
  return full;
}

static status append_cuda(void *options, const struct provider *provider) {
  (void)options, (void)provider;
  return NULL;
}

static void release_session_options(void *options) {
  free(take(options));
  ((void (*)(void *))real[RELEASE_SESSION_OPTIONS])(options);
}

// ---- Sessions and memory

static status build(const char *file) {
  const char *gate = getenv("WATCHPOST_SOFT_GATE");
  // In the process that builds: whoever ends it ends this wait.
  while (gate && access(gate, F_OK)) usleep(10000);
  char words[200] = "";
  FILE *from = gate ? fopen(gate, "r") : NULL;
  if (from) {
    if (!fgets(words, sizeof words, from)) *words = 0;
    fclose(from);
  }
  if (*words) return refuse(words);
  FILE *to = fopen(file, "w");
  if (!to || fputs("an engine\n", to) < 0 || fclose(to)) return refuse("the engine cannot be written");
  return NULL;
}

static status create_session(const void *environment, const char *model, const void *options, void **out) {
  char *folder = take(options);
  if (folder) {
    char file[4096];
    snprintf(file, sizeof file, "%s/graph.engine", folder);
    free(folder);
    status refused = access(file, F_OK) ? build(file) : NULL;
    if (refused) return refused;
  }
  return ((status (*)(const void *, const char *, const void *, void **))real[CREATE_SESSION])(environment, model, options, out);
}

static status create_memory_info(const char *name, int kind, int id, int type, void **out) {
  if (!strcmp(name, "Cuda")) name = "Cpu", id = 0;
  return ((status (*)(const char *, int, int, int, void **))real[CREATE_MEMORY_INFO])(name, kind, id, type, out);
}

// ---- The way in: the real library's own table of functions, with some of them exchanged

static const struct { int place; function ours; } exchanged[] = {
  {CREATE_SESSION, (function)create_session}, {CREATE_MEMORY_INFO, (function)create_memory_info},
  {RELEASE_SESSION_OPTIONS, (function)release_session_options},
  {CREATE_TENSORRT, (function)create}, {UPDATE_TENSORRT, (function)update}, {RELEASE_TENSORRT, (function)release},
  {APPEND_TENSORRT, (function)append_tensorrt},
  {CREATE_CUDA, (function)create}, {UPDATE_CUDA, (function)update}, {RELEASE_CUDA, (function)release},
  {APPEND_CUDA, (function)append_cuda},
};

static function *table;

static const function *api(uint32_t version) { return real_base->api(version) ? table : NULL; }

static struct base base = {api, NULL};

static void fail(const char *what) {
  fprintf(stderr, "ONNX Runtime for tests: %s\n", what);
  abort();
}

static void find(void) {
  const char *name = getenv("WATCHPOST_SOFT_ONNXRUNTIME");
  if (!name) fail("WATCHPOST_SOFT_ONNXRUNTIME does not name the real library");
  void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!library) fail(dlerror());
  const struct base *(*get)(void) = (const struct base *(*)(void))dlsym(library, "OrtGetApiBase");
  if (!get) fail(dlerror());
  real_base = get();
  table = (function *)real_base->api(24);
  if (!table) fail("the real library is too old");
  memcpy(real, table, sizeof real);
  // Its length grows with the version, so it is changed in its place and not copied.
  long page = sysconf(_SC_PAGESIZE);
  uintptr_t from = (uintptr_t)table / (uintptr_t)page * (uintptr_t)page;
  uintptr_t length = (uintptr_t)(table + KNOWN) - from;
  if (mprotect((void *)from, length, PROT_READ | PROT_WRITE)) fail("its table of functions cannot be changed");
  for (size_t i = 0; i < sizeof exchanged / sizeof *exchanged; i++) table[exchanged[i].place] = exchanged[i].ours;
  base.version = real_base->version;
}

__attribute__((visibility("default"))) const struct base *OrtGetApiBase(void);
const struct base *OrtGetApiBase(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, find);
  return &base;
}
#endif
