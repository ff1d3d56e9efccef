// Settings of the software driver, the names of CUDA's errors, and the resolution of functions by name.
//
// In: WATCHPOST_SOFT_* variables, error codes, symbol names with a CUDA version. Out: settings, strings, addresses.
// Who owns: strings are static. What fails: a malformed number is said and the default taken; unknown names are told.
#include "soft.h"

#include <dlfcn.h>
#include <stdio.h>

static struct wp_settings settings;
static pthread_once_t settings_once = PTHREAD_ONCE_INIT;

static long long number(const char *name, long long otherwise) {
  const char *text = getenv(name);
  if (!text || !*text) return otherwise;
  char *end;
  long long value = strtoll(text, &end, 10);
  if (*end || value < 0) {
    fprintf(stderr, "software CUDA driver: %s=%s is no number; taking %lld\n", name, text, otherwise);
    return otherwise;
  }
  return value;
}

static void read_settings(void) {
  settings.devices = (int)number("WATCHPOST_SOFT_DEVICES", 1);
  if (settings.devices > 16) settings.devices = 16;
  settings.memory = (size_t)number("WATCHPOST_SOFT_MEMORY", 2LL << 30);
  settings.version = (int)number("WATCHPOST_SOFT_VERSION", 12080);
  settings.capability = (int)number("WATCHPOST_SOFT_CAPABILITY", 75);
  settings.async = number("WATCHPOST_SOFT_ASYNC", 0) != 0;
  settings.delay_us = (long)number("WATCHPOST_SOFT_DELAY_US", 2000);
  settings.fence = number("WATCHPOST_SOFT_FENCE", 1) != 0;
  settings.pages = number("WATCHPOST_SOFT_PAGES", 0) != 0;
  settings.strict = number("WATCHPOST_SOFT_STRICT", 0) != 0;
  settings.kernels = getenv("WATCHPOST_SOFT_KERNELS");
  settings.report = getenv("WATCHPOST_SOFT_REPORT");
}

const struct wp_settings *wp_settings(void) {
  pthread_once(&settings_once, read_settings);
  return &settings;
}

static const struct { CUresult code; const char *name, *text; } ERRORS[] = {
  {0, "CUDA_SUCCESS", "no error"},
  {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
  {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
  {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
  {4, "CUDA_ERROR_DEINITIALIZED", "driver shutting down"},
  {34, "CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library"},
  {46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
  {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
  {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
  {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
  {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
  {205, "CUDA_ERROR_MAP_FAILED", "mapping of buffer object failed"},
  {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
  {214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
  {217, "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED", "peer access is not supported between these two devices"},
  {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
  {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
  {301, "CUDA_ERROR_FILE_NOT_FOUND", "file not found"},
  {304, "CUDA_ERROR_OPERATING_SYSTEM", "OS call failed or operation not supported on this OS"},
  {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
  {401, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state"},
  {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
  {600, "CUDA_ERROR_NOT_READY", "device not ready"},
  {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
  {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
  {702, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
  {704, "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED", "peer access is already enabled"},
  {705, "CUDA_ERROR_PEER_ACCESS_NOT_ENABLED", "peer access has not been enabled"},
  {708, "CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE", "cannot set while device is active in this process"},
  {709, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
  {710, "CUDA_ERROR_ASSERT", "device-side assert triggered"},
  {712, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED", "part or all of the requested memory range is already mapped"},
  {713, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED", "pointer does not correspond to a registered memory region"},
  {714, "CUDA_ERROR_HARDWARE_STACK_ERROR", "hardware stack error"},
  {715, "CUDA_ERROR_ILLEGAL_INSTRUCTION", "an illegal instruction was encountered"},
  {716, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
  {717, "CUDA_ERROR_INVALID_ADDRESS_SPACE", "operation not supported on global/shared address space"},
  {718, "CUDA_ERROR_INVALID_PC", "invalid program counter"},
  {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
  {800, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted"},
  {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
  {802, "CUDA_ERROR_SYSTEM_NOT_READY", "system not yet initialized"},
  {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"},
  {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

static CUresult describe(CUresult code, const char **out, bool name) {
  if (!out) return INVALID_VALUE;
  for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++) {
    if (ERRORS[i].code == code) {
      *out = name ? ERRORS[i].name : ERRORS[i].text;
      return OK;
    }
  }
  *out = NULL;
  return INVALID_VALUE;
}

// Not entered through ENTER: they must answer whatever state everything is in.
API CUresult cuGetErrorName(CUresult code, const char **name) { return describe(code, name, true); }
API CUresult cuGetErrorString(CUresult code, const char **text) { return describe(code, text, false); }

// ---- cuGetProcAddress: a plain name means the newest form that the asked version of CUDA knows.

// Forms that came after the ones CUDA 4 settled on; elsewhere _v2 is as old as anybody asks for.
static const struct { const char *symbol, *form; int since; } FORMS[] = {
  {"cuCtxCreate", "cuCtxCreate_v4", 12050}, {"cuCtxCreate", "cuCtxCreate_v3", 11040},
  {"cuEventElapsedTime", "cuEventElapsedTime_v2", 12080}, {"cuGetProcAddress", "cuGetProcAddress_v2", 12000},
  {"cuGetProcAddress", "cuGetProcAddress", 0}, {"cuEventElapsedTime", "cuEventElapsedTime", 0},
  {"cuDeviceGetUuid", "cuDeviceGetUuid_v2", 11040}, {"cuDeviceGetUuid", "cuDeviceGetUuid", 0},
  {"cuDevicePrimaryCtxRelease", "cuDevicePrimaryCtxRelease_v2", 7000},
  {"cuDevicePrimaryCtxReset", "cuDevicePrimaryCtxReset_v2", 7000},
};

static void *own_symbol(const char *name) {
  static void *self;
  if (!self) {
    Dl_info info;
    if (!dladdr((void *)own_symbol, &info)) return NULL;
    self = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  }
  // Only what this driver itself defines: dlsym would go on into libc.
  void *found = self && !strncmp(name, "cu", 2) ? dlsym(self, name) : NULL;
  return found;
}

API CUresult cuGetProcAddress_v2(const char *symbol, void **address, int version, uint64_t flags, int *status) {
  ENTER(ANY);
  (void)flags;
  if (!symbol || !address) return INVALID_VALUE;
  bool listed = false;
  *address = NULL;
  for (size_t i = 0; i < sizeof FORMS / sizeof *FORMS && !*address; i++) {
    if (strcmp(FORMS[i].symbol, symbol)) continue;
    listed = true;
    if (version >= FORMS[i].since) *address = own_symbol(FORMS[i].form);
  }
  char newer[128];
  snprintf(newer, sizeof newer, "%s_v2", symbol);
  if (!*address && (!listed || version < 11040)) *address = own_symbol(newer);
  if (!*address && !listed) *address = own_symbol(symbol);
  if (status) *status = *address ? 0 : 1;
  return *address ? OK : NOT_FOUND;
}

API CUresult cuGetProcAddress(const char *symbol, void **address, int version, uint64_t flags) {
  return cuGetProcAddress_v2(symbol, address, version, flags, NULL);
}

// Private tables of the runtime library (cudart): there are none here, and cudart says so.
API CUresult cuGetExportTable(const void **table, const CUuuid *id) {
  ENTER(ANY);
  (void)id;
  if (table) *table = NULL;
  return NOT_FOUND;
}
