// Modules, functions and launches: kernels of the module's PTX, run by functions built for the host.
//
// In: PTX (of a binary nothing can be read: it loads, and has no kernels); the library that WATCHPOST_SOFT_KERNELS
// names, opened at the first need, with
//   void NAME__host(unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, void **params)
// for each kernel NAME. Out: launches, each running its function once for the whole grid.
// Who owns: a module belongs to its loader, functions to their module; the library stays open.
// What fails: a kernel that the PTX or the library lacks is NOT_FOUND, and for the library it says so; a launch whose
// parameters point into freed memory is ILLEGAL_ADDRESS for good, when it runs.
#include "soft.h"
#include "ptx.h"

#include <dlfcn.h>
#include <stdio.h>

typedef void host_kernel(unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void **);

struct wp_function {
  unsigned mark;
  struct wp_module *module;
  struct wp_function *next;
  host_kernel *run;
  struct ptx_kernel kernel;
};

struct wp_module {
  struct wp_handle handle;
  struct wp_function *functions;
  struct ptx_kernel *kernels;
  size_t count;
};

// ---- Modules

static CUresult load(CUmodule *out, const void *image, char *why, size_t room) {
  if (!out || !image) return INVALID_VALUE;
  struct ptx_kernel *kernels;
  size_t count;
  CUresult result = wp_read_ptx(image, &kernels, &count, why, room);
  if (result) return result;
  CUmodule module = wp_handle_new(sizeof *module, MARK_MODULE, MODULES, wp_current());
  module->kernels = kernels;
  module->count = count;
  *out = module;
  return OK;
}

API CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  ENTER(CURRENT);
  char why[120] = "";
  CUresult result = load(module, image, why, sizeof why);
  if (result && *why) fprintf(stderr, "software CUDA driver: a module was refused: %s\n", why);
  return result;
}

API CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned count, const int *options, void **values) {
  ENTER(CURRENT);
  char why[120] = "";
  CUresult result = load(module, image, why, sizeof why);
  // Log buffers: 3 and 4 are address and size of the one for talk, 5 and 6 of the one for errors.
  char *log = NULL;
  for (unsigned i = 0; options && values && i < count; i++) {
    if (options[i] == 5) log = values[i];
    if (options[i] == 4) values[i] = NULL;
  }
  for (unsigned i = 0; options && values && i < count; i++) {
    if (options[i] != 6) continue;
    size_t room = (size_t)(uintptr_t)values[i];
    if (log && room) snprintf(log, room, "%s", why);
    values[i] = (void *)(uintptr_t)(log && room ? strlen(log) : 0);
  }
  return result;
}

API CUresult cuModuleLoadFatBinary(CUmodule *module, const void *image) {
  ENTER(CURRENT);
  char why[120] = "";
  return load(module, image, why, sizeof why);
}

API CUresult cuModuleLoad(CUmodule *module, const char *path) {
  ENTER(CURRENT);
  FILE *file = path ? fopen(path, "rb") : NULL;
  if (!file) return path ? FILE_NOT_FOUND : INVALID_VALUE;
  char *image = NULL, why[120] = "";
  size_t length = 0, got;
  do {
    image = realloc(image, length + 65536 + 1);
    if (!image) wp_abort("no memory for a module");
    got = fread(image + length, 1, 65536, file);
    length += got;
  } while (got);
  fclose(file);
  memset(image + length, 0, 1);
  CUresult result = length < 4 ? INVALID_IMAGE : load(module, image, why, sizeof why);
  free(image);
  return result;
}

API CUresult cuModuleUnload(CUmodule module) {
  ENTER(CURRENT);
  TRY(wp_usable(module, MARK_MODULE));
  pthread_mutex_lock(&wp_lock);
  wp_handle_end(&module->handle, false);
  pthread_mutex_unlock(&wp_lock);
  return OK;
}

API CUresult cuModuleGetGlobal_v2(CUdeviceptr *at, size_t *size, CUmodule module, const char *name) {
  ENTER(CURRENT);
  (void)at, (void)size, (void)name;
  TRY(wp_usable(module, MARK_MODULE));
  return NOT_FOUND;
}

// ---- Functions

static void *library;
static pthread_once_t library_once = PTHREAD_ONCE_INIT;

static void open_library(void) {
  const char *name = wp_settings()->kernels;
  if (!name || !*name) {
    fprintf(stderr, "software CUDA driver: no kernels for the host: WATCHPOST_SOFT_KERNELS is not set\n");
    return;
  }
  library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!library) fprintf(stderr, "software CUDA driver: no kernels for the host: %s\n", dlerror());
}

API CUresult cuModuleGetFunction(CUfunction *out, CUmodule module, const char *name) {
  ENTER(CURRENT);
  if (!out || !name || strlen(name) > 200) return INVALID_VALUE;
  TRY(wp_usable(module, MARK_MODULE));
  const struct ptx_kernel *kernel = NULL;
  for (size_t i = 0; i < module->count && !kernel; i++) {
    if (!strcmp(module->kernels[i].name, name)) kernel = &module->kernels[i];
  }
  if (!kernel) return NOT_FOUND;
  pthread_once(&library_once, open_library);
  char symbol[256];
  snprintf(symbol, sizeof symbol, "%s__host", name);
  void *found = library ? dlsym(library, symbol) : NULL;
  if (!found) {
    if (library) fprintf(stderr, "software CUDA driver: the library of host kernels has no %s\n", symbol);
    return NOT_FOUND;
  }
  pthread_mutex_lock(&wp_lock);
  CUfunction function = module->functions;
  while (function && strcmp(function->kernel.name, name)) function = function->next;
  if (!function) {
    function = calloc(1, sizeof *function);
    if (!function) wp_abort("no memory for a function");
    function->mark = MARK_FUNCTION;
    function->module = module;
    function->kernel = *kernel;
    memcpy(&function->run, &found, sizeof found);
    function->next = module->functions;
    module->functions = function;
  }
  pthread_mutex_unlock(&wp_lock);
  *out = function;
  return OK;
}

static CUresult function_of(CUfunction function) {
  return wp_handle_is(function, MARK_FUNCTION) ? wp_usable(function->module, MARK_MODULE) : INVALID_HANDLE;
}

API CUresult cuModuleGetFunctionCount(unsigned *count, CUmodule module) {
  ENTER(INIT);
  if (!count) return INVALID_VALUE;
  TRY(wp_usable(module, MARK_MODULE));
  *count = (unsigned)module->count;
  return OK;
}

API CUresult cuFuncGetName(const char **name, CUfunction function) {
  ENTER(INIT);
  if (!name) return INVALID_VALUE;
  TRY(function_of(function));
  *name = function->kernel.name;
  return OK;
}

API CUresult cuFuncGetModule(CUmodule *module, CUfunction function) {
  ENTER(INIT);
  if (!module) return INVALID_VALUE;
  TRY(function_of(function));
  *module = function->module;
  return OK;
}

API CUresult cuFuncGetAttribute(int *value, int attribute, CUfunction function) {
  ENTER(INIT);
  if (!value || attribute < 0) return INVALID_VALUE;
  TRY(function_of(function));
  static const int values[] = {1024, 0, 0, 0, 32, 60, 75, 0, 49152};   // threads a block first, dynamic shared memory last
  *value = attribute < (int)(sizeof values / sizeof *values) ? values[attribute] : 0;
  return OK;
}

API CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value) {
  ENTER(INIT);
  (void)attribute, (void)value;
  return function_of(function);
}

API CUresult cuFuncSetCacheConfig(CUfunction function, int config) {
  ENTER(INIT);
  (void)config;
  return function_of(function);
}

API CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int threads, size_t shared) {
  ENTER(INIT);
  (void)shared;
  if (!blocks || threads < 1) return INVALID_VALUE;
  TRY(function_of(function));
  *blocks = 1024 / threads;
  return OK;
}

API CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, CUfunction function, int threads,
                                                                  size_t shared, unsigned flags) {
  ENTER(INIT);
  (void)shared, (void)flags;
  if (!blocks || threads < 1) return INVALID_VALUE;
  TRY(function_of(function));
  *blocks = 1024 / threads;
  return OK;
}

static CUresult potential(int *grid, int *block, CUfunction function, int limit) {
  if (!grid || !block) return INVALID_VALUE;
  TRY(function_of(function));
  *grid = 2;
  *block = limit > 0 && limit < 1024 ? limit : 1024;
  return OK;
}

API CUresult cuOccupancyMaxPotentialBlockSize(int *grid, int *block, CUfunction function, size_t (*shared_of)(int),
                                              size_t shared, int limit) {
  ENTER(INIT);
  (void)shared_of, (void)shared;
  return potential(grid, block, function, limit);
}

API CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int *grid, int *block, CUfunction function,
                                                       size_t (*shared_of)(int), size_t shared, int limit,
                                                       unsigned flags) {
  ENTER(INIT);
  (void)shared_of, (void)shared, (void)flags;
  return potential(grid, block, function, limit);
}

API CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t *shared, CUfunction function, int blocks, int threads) {
  ENTER(INIT);
  if (!shared || blocks < 1 || threads < 1) return INVALID_VALUE;
  TRY(function_of(function));
  *shared = 49152 / (size_t)blocks;
  return OK;
}

// ---- Launches

struct launch {
  struct wp_work work;
  CUfunction function;
  unsigned grid[3], block[3];
  void *params[PTX_PARAMETERS];
  _Alignas(16) unsigned char values[];
};

// Addresses of the device become those of the bytes. False: one points into memory that was freed.
static bool translate(struct launch *launch) {
  char name[120];
  for (size_t i = 0; i < launch->function->kernel.count; i++) {
    // A parameter of eight bytes may be an address, and so may each aligned word of a structure.
    for (size_t offset = 0; offset + 8 <= launch->function->kernel.sizes[i]; offset += 8) {
      uintptr_t word;
      memcpy(&word, (const char *)launch->params[i] + offset, sizeof word);
      char *found = wp_bytes(word, name, sizeof name);
      if (word && !found) {
        wp_misuse("cuLaunchKernel: parameter %zu of %s points into %s, freed before it ran", i,
                  launch->function->kernel.name, name);
        return false;
      }
      memcpy((char *)launch->params[i] + offset, &found, sizeof found);
    }
  }
  return true;
}

static void run(struct wp_work *work) {
  struct launch *launch = (struct launch *)work;
  if (!translate(launch)) {
    wp_sicken(work->stream->handle.context, ILLEGAL_ADDRESS);
    return;
  }
  const unsigned *grid = launch->grid, *block = launch->block;
  wp_fence_kernel(true);
  launch->function->run(grid[0], grid[1], grid[2], block[0], block[1], block[2], launch->params);
  wp_fence_kernel(false);
}

static CUresult launch(CUfunction function, const unsigned grid[3], const unsigned block[3], unsigned shared,
                       CUstream given, void **params, void **extra) {
  struct wp_stream *stream;
  TRY(function_of(function));
  TRY(wp_stream(given, &stream));
  if (stream->handle.context != function->module->handle.context) return INVALID_HANDLE;
  if (extra) return NOT_SUPPORTED;
  unsigned threads = block[0] * block[1] * block[2];
  for (int i = 0; i < 3; i++) {
    if (!grid[i] || !block[i] || block[i] > (i == 2 ? 64u : 1024u) || grid[i] > (i ? 65535u : 0x7fffffffu)) return INVALID_VALUE;
  }
  if (threads > 1024 || shared > 65536) return INVALID_VALUE;
  const struct ptx_kernel *kernel = &function->kernel;
  if (kernel->count && !params) return INVALID_VALUE;
  size_t size = 0;
  for (size_t i = 0; i < kernel->count; i++) {
    if (!params[i]) return INVALID_VALUE;
    size += (kernel->sizes[i] + 15) / 16 * 16;
  }
  struct launch *launch = wp_work_new(sizeof *launch + size, run);
  launch->function = function;
  memcpy(launch->grid, grid, sizeof launch->grid);
  memcpy(launch->block, block, sizeof launch->block);
  size_t offset = 0;
  for (size_t i = 0; i < kernel->count; i++) {
    launch->params[i] = memcpy(launch->values + offset, params[i], kernel->sizes[i]);
    offset += (kernel->sizes[i] + 15) / 16 * 16;
  }
  pthread_mutex_lock(&wp_lock);
  wp_launched(kernel->name, wp_current()->device);
  pthread_mutex_unlock(&wp_lock);
  return wp_submit(stream, &launch->work, false);
}

API CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                            unsigned bz, unsigned shared, CUstream stream, void **params, void **extra) {
  ENTER(CURRENT);
  return launch(function, (unsigned[]){gx, gy, gz}, (unsigned[]){bx, by, bz}, shared, stream, params, extra);
}

API CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                                       unsigned by, unsigned bz, unsigned shared, CUstream stream, void **params) {
  ENTER(CURRENT);
  return launch(function, (unsigned[]){gx, gy, gz}, (unsigned[]){bx, by, bz}, shared, stream, params, NULL);
}

// CUlaunchConfig; its attributes are hints here.
struct launch_config { unsigned grid[3], block[3], shared; CUstream stream; void *attributes; unsigned count; };

API CUresult cuLaunchKernelEx(const struct launch_config *config, CUfunction function, void **params, void **extra) {
  ENTER(CURRENT);
  if (!config) return INVALID_VALUE;
  return launch(function, config->grid, config->block, config->shared, config->stream, params, extra);
}
