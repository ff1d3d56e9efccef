// The small change of the interface: properties of contexts that are kept and given back, and whole groups of functions
// that exist so that their caller finds them, and that say what a device without them says.
//
// In and out: as the CUDA driver API. Who owns: nothing is made here but what a context's own fields hold.
// What fails: graphics and textures are NOT_SUPPORTED.
#include "soft.h"

API CUresult cuCtxGetFlags(unsigned *flags) {
  ENTER(CURRENT);
  if (!flags) return INVALID_VALUE;
  *flags = wp_current()->flags;
  return OK;
}

API CUresult cuCtxSetFlags(unsigned flags) {
  ENTER(CURRENT);
  wp_current()->flags = flags;
  return OK;
}

API CUresult cuCtxGetId(CUcontext context, unsigned long long *id) {
  ENTER(INIT);
  if (!id) return INVALID_VALUE;
  CUresult problem;
  if (!wp_adopt(context ? context : wp_current(), &problem)) return problem;
  *id = (context ? context : wp_current())->id;
  return OK;
}

API CUresult cuCtxGetApiVersion(CUcontext context, unsigned *version) {
  ENTER(INIT);
  if (!version) return INVALID_VALUE;
  CUresult problem;
  if (!wp_adopt(context ? context : wp_current(), &problem)) return problem;
  *version = 3020;
  return OK;
}

API CUresult cuCtxGetLimit(size_t *value, unsigned limit) {
  ENTER(CURRENT);
  if (!value || limit >= sizeof wp_current()->limits / sizeof *wp_current()->limits) return INVALID_VALUE;
  *value = wp_current()->limits[limit];
  return OK;
}

API CUresult cuCtxSetLimit(unsigned limit, size_t value) {
  ENTER(CURRENT);
  if (limit >= sizeof wp_current()->limits / sizeof *wp_current()->limits) return INVALID_VALUE;
  wp_current()->limits[limit] = value;
  return OK;
}

API CUresult cuCtxGetCacheConfig(int *config) {
  ENTER(CURRENT);
  if (!config) return INVALID_VALUE;
  *config = wp_current()->cache_config;
  return OK;
}

API CUresult cuCtxSetCacheConfig(int config) {
  ENTER(CURRENT);
  wp_current()->cache_config = config;
  return OK;
}

API CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
  ENTER(CURRENT);
  if (least) *least = 0;
  if (greatest) *greatest = -5;
  return OK;
}

API CUresult cuCtxResetPersistingL2Cache(void) { ENTER(CURRENT); return OK; }
API CUresult cuProfilerStart(void) { ENTER(CURRENT); return OK; }
API CUresult cuProfilerStop(void) { ENTER(CURRENT); return OK; }

API CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned flags) {
  ENTER(CURRENT);
  (void)peer, (void)flags;
  return 217;
}

API CUresult cuCtxDisablePeerAccess(CUcontext peer) {
  ENTER(CURRENT);
  (void)peer;
  return 705;
}

// ---- Memory pools: one a device by default; their properties are kept nowhere, since nothing here is cached.

struct wp_pool { struct wp_handle handle; CUdevice device; };
static struct wp_pool default_pools[16];

API CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice device) {
  ENTER(INIT);
  if (!pool) return INVALID_VALUE;
  if (device < 0 || device >= wp_settings()->devices) return INVALID_DEVICE;
  default_pools[device].handle.mark = MARK_POOL;
  default_pools[device].device = device;
  *pool = &default_pools[device];
  return OK;
}
API CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice device) __attribute__((alias("cuDeviceGetDefaultMemPool")));

API CUresult cuMemPoolCreate(CUmemoryPool *pool, const void *properties) {
  ENTER(CURRENT);
  if (!pool || !properties) return INVALID_VALUE;
  *pool = wp_handle_new(sizeof **pool, MARK_POOL, POOLS, wp_current());
  (*pool)->device = wp_current()->device;
  return OK;
}

API CUresult cuMemPoolDestroy(CUmemoryPool pool) {
  ENTER(INIT);
  if (!wp_handle_is(pool, MARK_POOL) || !pool->handle.context) return INVALID_VALUE;
  pthread_mutex_lock(&wp_lock);
  wp_handle_end(&pool->handle, false);
  pthread_mutex_unlock(&wp_lock);
  return OK;
}

API CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep) {
  ENTER(INIT);
  (void)keep;
  return wp_handle_is(pool, MARK_POOL) ? OK : INVALID_VALUE;
}

API CUresult cuMemPoolSetAttribute(CUmemoryPool pool, int attribute, void *value) {
  ENTER(INIT);
  (void)attribute;
  return wp_handle_is(pool, MARK_POOL) && value ? OK : INVALID_VALUE;
}

API CUresult cuMemPoolGetAttribute(CUmemoryPool pool, int attribute, void *value) {
  ENTER(INIT);
  if (!wp_handle_is(pool, MARK_POOL) || !value) return INVALID_VALUE;
  // The first three are switches of type int, the others sizes.
  if (attribute <= 3) *(int *)value = 1;
  else *(uint64_t *)value = 0;
  return OK;
}

API CUresult cuDeviceSetMemPool(CUdevice device, CUmemoryPool pool) {
  ENTER(INIT);
  (void)device;
  return wp_handle_is(pool, MARK_POOL) ? OK : INVALID_VALUE;
}

// ---- What this device does not do. GStreamer's loader (the last five: from 1.26) wants to find nearly all of these, and
// calls none without OpenGL or a second process.

#define UNSUPPORTED(name) API CUresult name(void); CUresult name(void) { ENTER(INIT); return NOT_SUPPORTED; }
UNSUPPORTED(cuGraphicsMapResources)
UNSUPPORTED(cuGraphicsUnmapResources)
UNSUPPORTED(cuGraphicsUnregisterResource)
UNSUPPORTED(cuGraphicsGLRegisterImage)
UNSUPPORTED(cuGraphicsGLRegisterBuffer)
UNSUPPORTED(cuGraphicsResourceSetMapFlags_v2)
UNSUPPORTED(cuGraphicsResourceSetMapFlags)
UNSUPPORTED(cuGraphicsSubResourceGetMappedArray)
UNSUPPORTED(cuGraphicsResourceGetMappedPointer_v2)
UNSUPPORTED(cuGLGetDevices_v2)
UNSUPPORTED(cuTexObjectCreate)
UNSUPPORTED(cuTexObjectDestroy)
UNSUPPORTED(cuStreamBeginCapture_v2)
UNSUPPORTED(cuStreamEndCapture)
UNSUPPORTED(cuIpcGetEventHandle)
UNSUPPORTED(cuIpcOpenEventHandle)
UNSUPPORTED(cuIpcGetMemHandle)
UNSUPPORTED(cuIpcOpenMemHandle_v2)
UNSUPPORTED(cuIpcCloseMemHandle)
