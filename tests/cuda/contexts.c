// Devices and contexts: how many devices there are and what they say of themselves, which context is current, the
// primary contexts, what a context takes along when it ends.
//
// In: device ordinals, context handles. Out: handles and attributes; one stack of current contexts for each thread.
// Who owns: a created context is its creator's; a primary context is shared and counted; both outlive their end as
// memory, so that a stale handle says CONTEXT_IS_DESTROYED.
// What fails: a context with a sticky error refuses everything but being pushed, popped, reset and destroyed.
#include "soft.h"

#include <stdio.h>

#define DEEPEST 64
static _Thread_local struct { CUcontext at[DEEPEST]; int depth; } stack;
static struct wp_context primaries[16];
static atomic_uint_fast64_t next_id = 1;

CUcontext wp_current(void) { return stack.depth ? stack.at[stack.depth - 1] : NULL; }

CUcontext wp_adopt(CUcontext given, CUresult *problem) {
  if (!given || (uintptr_t)given & 7 || given->mark != MARK_CONTEXT) *problem = INVALID_CONTEXT;
  else if (!given->alive) *problem = CONTEXT_IS_DESTROYED;
  else *problem = atomic_load(&given->sticky);
  return *problem ? NULL : given;
}

CUresult wp_usable(const void *handle, unsigned mark) {
  if (!wp_handle_is(handle, mark)) return INVALID_HANDLE;
  CUresult problem;
  wp_adopt(((const struct wp_handle *)handle)->context, &problem);
  return problem;
}

// ---- Start, devices

API CUresult cuInit(unsigned flags) {
  ENTER(ANY);
  if (flags) return INVALID_VALUE;
  if (wp_settings()->devices == 0) return NO_DEVICE;
  wp_fence_watch();
  atomic_store(&wp_initialized, true);
  return OK;
}

API CUresult cuDriverGetVersion(int *version) {
  ENTER(ANY);
  if (!version) return INVALID_VALUE;
  *version = wp_settings()->version;
  return OK;
}

static bool is_device(CUdevice device) { return device >= 0 && device < wp_settings()->devices; }

API CUresult cuDeviceGetCount(int *count) {
  ENTER(INIT);
  if (!count) return INVALID_VALUE;
  *count = wp_settings()->devices;
  return OK;
}

API CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  ENTER(INIT);
  if (!device) return INVALID_VALUE;
  if (!is_device(ordinal)) return INVALID_DEVICE;
  *device = ordinal;
  return OK;
}

API CUresult cuDeviceGetName(char *name, int room, CUdevice device) {
  ENTER(INIT);
  if (!name || room < 1) return INVALID_VALUE;
  if (!is_device(device)) return INVALID_DEVICE;
  snprintf(name, (size_t)room, "Software GPU %d", device);
  return OK;
}

API CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device) {
  ENTER(INIT);
  if (!uuid) return INVALID_VALUE;
  if (!is_device(device)) return INVALID_DEVICE;
  memcpy(uuid->bytes, "software-gpu-\0\0", sizeof uuid->bytes);
  uuid->bytes[15] = (char)device;
  return OK;
}
API CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device) __attribute__((alias("cuDeviceGetUuid")));

API CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
  ENTER(INIT);
  if (!bytes) return INVALID_VALUE;
  if (!is_device(device)) return INVALID_DEVICE;
  *bytes = wp_settings()->memory;
  return OK;
}

API CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
  ENTER(INIT);
  if (!value) return INVALID_VALUE;
  if (!is_device(device)) return INVALID_DEVICE;
  // In the header's order; what is not listed is 0, as it is for anything the device cannot do.
  static const struct { int attribute, value; } known[] = {
    {1, 1024} /* threads a block */, {2, 1024}, {3, 1024}, {4, 64} /* block */, {5, 0x7fffffff}, {6, 65535},
    {7, 65535} /* grid */, {8, 49152} /* shared memory a block */, {9, 65536} /* constant memory */,
    {10, 32} /* warp */, {11, 0x7fffffff} /* pitch */, {12, 65536} /* registers a block */, {13, 1500000} /* kHz */,
    {14, 512} /* texture alignment */, {15, 1} /* overlap */, {16, 2} /* multiprocessors */,
    {19, 1} /* maps host memory */, {31, 1} /* concurrent kernels */, {34, 1} /* bus */, {36, 5000000} /* kHz */,
    {37, 128} /* bus width */, {38, 4194304} /* L2 cache */, {39, 1024} /* threads a multiprocessor */,
    {40, 2} /* copy engines */, {41, 1} /* unified addressing */, {51, 32} /* texture pitch alignment */,
    {78, 1} /* stream priorities */, {81, 65536} /* shared memory a multiprocessor */,
    {82, 65536} /* registers a multiprocessor */, {83, 1} /* managed memory */,
    {91, 1} /* host pointers of registered memory */, {95, 1} /* cooperative launch */,
    {97, 65536} /* shared memory a block, asked for */, {115, 1} /* memory pools */,
  };
  *value = 0;
  if (attribute == 75) *value = wp_settings()->capability / 10;
  if (attribute == 76) *value = wp_settings()->capability % 10;
  if (attribute == 33) *value = device;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    if (known[i].attribute == attribute) *value = known[i].value;
  }
  return attribute < 1 ? INVALID_VALUE : OK;
}

API CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device) {
  ENTER(INIT);
  if (!major || !minor) return INVALID_VALUE;
  if (!is_device(device)) return INVALID_DEVICE;
  *major = wp_settings()->capability / 10;
  *minor = wp_settings()->capability % 10;
  return OK;
}

API CUresult cuDeviceGetPCIBusId(char *name, int room, CUdevice device) {
  ENTER(INIT);
  if (!name || room < 13) return INVALID_VALUE;
  if (!is_device(device)) return INVALID_DEVICE;
  snprintf(name, (size_t)room, "0000:%02x:00.0", device + 1);
  return OK;
}

API CUresult cuDeviceGetByPCIBusId(CUdevice *device, const char *name) {
  ENTER(INIT);
  unsigned domain, bus;
  if (!device || !name || sscanf(name, "%x:%x:", &domain, &bus) != 2) return INVALID_VALUE;
  if (!is_device((int)bus - 1)) return INVALID_DEVICE;
  *device = (int)bus - 1;
  return OK;
}

API CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer) {
  ENTER(INIT);
  if (!can) return INVALID_VALUE;
  if (!is_device(device) || !is_device(peer)) return INVALID_DEVICE;
  *can = 0;
  return OK;
}

// ---- The life of a context

static void begin(CUcontext context, CUdevice device, unsigned flags) {
  context->mark = MARK_CONTEXT;
  context->device = device;
  context->flags = flags;
  context->id = atomic_fetch_add(&next_id, 1);
  atomic_store(&context->sticky, OK);
  wp_stream_ready(&context->null_stream, context);
  context->alive = true;
  wp_born(CONTEXTS, device);
}

// Finishes what runs, then takes along whatever nobody freed, as a driver does; the books call it reclaimed.
static void end(CUcontext context, bool reclaimed) {
  pthread_mutex_lock(&wp_lock);
  wp_drain(context);
  context->alive = false;
  while (context->handles) wp_handle_end(context->handles, true);
  wp_reclaim_memory(context);
  wp_gone(CONTEXTS, context->device, reclaimed);
  pthread_mutex_unlock(&wp_lock);
  wp_stop_workers(context);
}

static CUresult create(CUcontext *out, unsigned flags, CUdevice device) {
  if (!out) return INVALID_VALUE;
  if (!is_device(device)) return INVALID_DEVICE;
  if (stack.depth == DEEPEST) return OUT_OF_MEMORY;
  CUcontext context = calloc(1, sizeof *context);
  if (!context) return OUT_OF_MEMORY;
  pthread_mutex_lock(&wp_lock);
  begin(context, device, flags);
  pthread_mutex_unlock(&wp_lock);
  stack.at[stack.depth++] = *out = context;
  return OK;
}

API CUresult cuCtxCreate_v2(CUcontext *context, unsigned flags, CUdevice device) {
  ENTER(INIT);
  return create(context, flags, device);
}

API CUresult cuCtxCreate_v3(CUcontext *context, void *affinity, int count, unsigned flags, CUdevice device) {
  ENTER(INIT);
  (void)affinity;
  return count ? NOT_SUPPORTED : create(context, flags, device);
}

API CUresult cuCtxCreate_v4(CUcontext *context, void *parameters, unsigned flags, CUdevice device) {
  ENTER(INIT);
  return parameters ? NOT_SUPPORTED : create(context, flags, device);
}

API CUresult cuCtxDestroy_v2(CUcontext context) {
  ENTER(INIT);
  CUresult problem;
  wp_adopt(context, &problem);
  if (problem && !wp_is_sticky(problem)) return problem;
  if (context->primary) return INVALID_CONTEXT;   // a primary context is released, never destroyed
  end(context, false);
  if (wp_current() == context) stack.depth--;
  return OK;
}
API CUresult cuCtxDestroy(CUcontext context) __attribute__((alias("cuCtxDestroy_v2")));

API CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device) {
  ENTER(INIT);
  if (!out) return INVALID_VALUE;
  if (!is_device(device)) return INVALID_DEVICE;
  CUcontext context = &primaries[device];
  pthread_mutex_lock(&wp_lock);
  if (!context->alive) {
    context->primary = true;
    begin(context, device, context->flags);
  }
  context->references++;
  wp_primary(true, device);
  pthread_mutex_unlock(&wp_lock);
  *out = context;
  return OK;
}

API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  ENTER(INIT);
  if (!is_device(device)) return INVALID_DEVICE;
  CUcontext context = &primaries[device];
  pthread_mutex_lock(&wp_lock);
  bool held = context->references > 0;
  bool last = held && --context->references == 0 && context->alive;
  if (held) wp_primary(false, device);
  pthread_mutex_unlock(&wp_lock);
  if (last) end(context, false);
  return held ? OK : INVALID_CONTEXT;
}
API CUresult cuDevicePrimaryCtxRelease(CUdevice device) __attribute__((alias("cuDevicePrimaryCtxRelease_v2")));

// Ends everything in the context at once; who retained it must still release it, and retain it anew to use it again.
API CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
  ENTER(INIT);
  if (!is_device(device)) return INVALID_DEVICE;
  if (primaries[device].alive) end(&primaries[device], false);
  return OK;
}
API CUresult cuDevicePrimaryCtxReset(CUdevice device) __attribute__((alias("cuDevicePrimaryCtxReset_v2")));

API CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
  ENTER(INIT);
  if (!flags || !active) return INVALID_VALUE;
  if (!is_device(device)) return INVALID_DEVICE;
  *flags = primaries[device].flags;
  *active = primaries[device].alive;
  return OK;
}

API CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned flags) {
  ENTER(INIT);
  if (!is_device(device)) return INVALID_DEVICE;
  primaries[device].flags = flags;
  return OK;
}
API CUresult cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned flags)
  __attribute__((alias("cuDevicePrimaryCtxSetFlags_v2")));

// ---- Which context is current

API CUresult cuCtxPushCurrent_v2(CUcontext context) {
  ENTER(INIT);
  CUresult problem;
  wp_adopt(context, &problem);
  if (problem && !wp_is_sticky(problem)) return problem;
  if (stack.depth == DEEPEST) return OUT_OF_MEMORY;
  stack.at[stack.depth++] = context;
  return OK;
}
API CUresult cuCtxPushCurrent(CUcontext context) __attribute__((alias("cuCtxPushCurrent_v2")));

API CUresult cuCtxPopCurrent_v2(CUcontext *context) {
  ENTER(INIT);
  if (!stack.depth) return INVALID_CONTEXT;
  stack.depth--;
  if (context) *context = stack.at[stack.depth];
  return OK;
}
API CUresult cuCtxPopCurrent(CUcontext *context) __attribute__((alias("cuCtxPopCurrent_v2")));

API CUresult cuCtxSetCurrent(CUcontext context) {
  ENTER(INIT);
  if (context) {
    CUresult problem;
    wp_adopt(context, &problem);
    if (problem && !wp_is_sticky(problem)) return problem;
    if (!stack.depth) stack.depth = 1;
    stack.at[stack.depth - 1] = context;
  } else if (stack.depth) {
    stack.depth--;
  }
  return OK;
}

API CUresult cuCtxGetCurrent(CUcontext *context) {
  ENTER(INIT);
  if (!context) return INVALID_VALUE;
  *context = wp_current();
  return OK;
}

API CUresult cuCtxGetDevice(CUdevice *device) {
  ENTER(CURRENT);
  if (!device) return INVALID_VALUE;
  *device = wp_current()->device;
  return OK;
}

API CUresult cuCtxSynchronize(void) {
  ENTER(CURRENT);
  CUcontext context = wp_current();
  pthread_mutex_lock(&wp_lock);
  wp_drain(context);
  pthread_mutex_unlock(&wp_lock);
  return atomic_load(&context->sticky);
}
