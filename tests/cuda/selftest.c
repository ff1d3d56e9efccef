// The self-test of the software driver: one case a run, each in a process of its own, since the driver's settings and
// books belong to a process. check.sh runs them all, with their settings.
//
// In: the name of a case. Out: exit status 0; cases that must abort do. Who owns: nothing stays.
// What fails: the first wrong value, with its line.
#include "selftest.h"

long long book(const char *group, const char *name) {
  char key[80];
  snprintf(key, sizeof key, "\"%s\":", group);
  const char *at = strstr(wpSoftReport(), key);
  if (!at) return -1;
  at += strlen(key);
  if (!name) return atoll(at);
  const char *end = strchr(at, '}');
  snprintf(key, sizeof key, "\"%s\":", name);
  const char *found = strstr(at, key);
  return !found || found > end ? -1 : atoll(found + strlen(key));
}

static long long copied(const char *direction, const char *what) { return book(direction, what); }

CUcontext begin(void) {
  CUcontext context;
  GOOD(cuInit(0));
  GOOD(cuDevicePrimaryCtxRetain(&context, 0));
  GOOD(cuCtxSetCurrent(context));
  return context;
}

void finish(void) {
  GOOD(cuDevicePrimaryCtxRelease_v2(0));
  const char *kinds[] = {"contexts", "streams", "events", "modules", "allocations", "host_allocations", "host_registrations"};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) SAME(book(kinds[i], "alive"), 0);
}

static void devices_case(void) {
  int value;
  char name[64];
  const char *text;
  size_t bytes;
  CUuuid uuid;
  void *address;
  SAME(cuDeviceGetCount(&value), NOT_INITIALIZED);
  GOOD(cuDriverGetVersion(&value));
  SAME(value, 12060);
  GOOD(cuInit(0));
  GOOD(cuDeviceGetCount(&value));
  SAME(value, 2);
  SAME(cuDeviceGet(&value, 2), INVALID_DEVICE);
  GOOD(cuDeviceGet(&value, 1));
  GOOD(cuDeviceGetName(name, sizeof name, 1));
  WANT(!strcmp(name, "Software GPU 1"));
  GOOD(cuDeviceGetUuid(&uuid, 1));
  SAME(uuid.bytes[15], 1);
  GOOD(cuDeviceTotalMem_v2(&bytes, 0));
  SAME(bytes, 1000000);
  GOOD(cuDeviceGetAttribute(&value, 75, 0));
  SAME(value, 8);
  GOOD(cuDeviceGetAttribute(&value, 115, 0));
  SAME(value, 1);
  GOOD(cuGetErrorName(OUT_OF_MEMORY, &text));
  WANT(!strcmp(text, "CUDA_ERROR_OUT_OF_MEMORY"));
  GOOD(cuGetErrorString(700, &text));
  WANT(!strcmp(text, "an illegal memory access was encountered"));
  SAME(cuGetErrorName(12345, &text), INVALID_VALUE);
  GOOD(cuGetProcAddress_v2("cuMemAlloc", &address, 12000, 0, &value));
  WANT(address == (void *)cuMemAlloc_v2 && value == 0);
  GOOD(cuGetProcAddress_v2("cuCtxCreate", &address, 10000, 0, NULL));
  WANT(address == (void *)cuCtxCreate_v2);
  GOOD(cuGetProcAddress_v2("cuCtxCreate", &address, 12080, 0, NULL));
  WANT(address && address != (void *)cuCtxCreate_v2);
  SAME(cuGetProcAddress_v2("cuNoSuchThing", &address, 12000, 0, &value), NOT_FOUND);
  WANT(!address && value == 1);
  SAME(cuTexObjectCreate(), NOT_SUPPORTED);
}

static void none_case(void) { SAME(cuInit(0), NO_DEVICE); }

static void contexts_case(void) {
  CUcontext first, second, got;
  CUdeviceptr memory;
  CUstream stream;
  unsigned flags;
  int active;
  GOOD(cuInit(0));
  SAME(cuMemAlloc_v2(&memory, 16), INVALID_CONTEXT);
  GOOD(cuCtxCreate_v2(&first, 0, 0));
  GOOD(cuCtxGetCurrent(&got));
  WANT(got == first);
  GOOD(cuCtxPopCurrent_v2(&got));
  WANT(got == first);
  SAME(cuCtxPopCurrent_v2(&got), INVALID_CONTEXT);
  GOOD(cuDevicePrimaryCtxRetain(&second, 0));
  GOOD(cuDevicePrimaryCtxRetain(&got, 0));
  WANT(got == second && got != first);
  GOOD(cuCtxSetCurrent(second));
  GOOD(cuCtxPushCurrent_v2(first));
  GOOD(cuStreamCreate(&stream, 1));
  GOOD(cuStreamGetCtx(stream, &got));
  WANT(got == first);
  GOOD(cuCtxPopCurrent_v2(NULL));
  GOOD(cuCtxGetCurrent(&got));
  WANT(got == second);
  SAME(book("contexts", "alive"), 2);
  // What is left in a context goes with it, and the books say that nobody freed it.
  GOOD(cuMemAlloc_v2(&memory, 16));
  GOOD(cuDevicePrimaryCtxRelease_v2(0));
  SAME(book("allocations", "alive"), 1);
  GOOD(cuDevicePrimaryCtxRelease_v2(0));
  SAME(cuDevicePrimaryCtxRelease_v2(0), INVALID_CONTEXT);
  SAME(book("allocations", "alive"), 0);
  SAME(book("allocations", "reclaimed"), 1);
  SAME(cuMemAlloc_v2(&memory, 16), CONTEXT_IS_DESTROYED);
  SAME(cuCtxPushCurrent_v2(second), CONTEXT_IS_DESTROYED);
  GOOD(cuDevicePrimaryCtxGetState(0, &flags, &active));
  SAME(active, 0);
  GOOD(cuCtxDestroy_v2(first));
  SAME(cuCtxDestroy_v2(first), CONTEXT_IS_DESTROYED);
  SAME(cuStreamSynchronize(stream), INVALID_HANDLE);
  SAME(book("streams", "reclaimed"), 1);
  SAME(book("primary", "retained"), 2);
  // A primary context comes back as the same handle, and a reset ends it under those who hold it.
  begin();
  GOOD(cuMemAlloc_v2(&memory, 16));
  GOOD(cuDevicePrimaryCtxReset_v2(0));
  SAME(cuMemAlloc_v2(&memory, 16), CONTEXT_IS_DESTROYED);
  finish();
}

static void memory_case(void) {
  CUcontext context = begin(), got;
  CUdeviceptr a, b, start;
  size_t pitch, left, total, size;
  void *host, *same;
  char own[64];
  unsigned kind;
  SAME(cuMemAlloc_v2(&a, 0), INVALID_VALUE);
  GOOD(cuMemAlloc_v2(&a, 600000));
  SAME(cuMemAlloc_v2(&b, 400001), OUT_OF_MEMORY);
  GOOD(cuMemAllocManaged(&b, 400000, 1));
  GOOD(cuMemGetInfo_v2(&left, &total));
  SAME(left, 0);
  SAME(total, 1000000);
  SAME(a % 256, 0);
  GOOD(cuMemcpyDtoH_v2(own, a + 599999, 1));
  SAME((unsigned char)own[0], 0xCD);
  SAME(((unsigned char *)(uintptr_t)b)[399999], 0xCD);
  GOOD(cuPointerGetAttribute(&kind, 2, a + 10));
  SAME(kind, 2);
  GOOD(cuPointerGetAttribute(&got, 1, a));
  WANT(got == context);
  GOOD(cuMemGetAddressRange_v2(&start, &size, a + 599999));
  WANT(start == a && size == 600000);
  SAME(cuPointerGetAttribute(&kind, 2, a + 600000), INVALID_VALUE);
  GOOD(cuMemFree_v2(a));
  GOOD(cuMemFree_v2(b));
  GOOD(cuMemFree_v2(0));
  SAME(cuMemFree_v2(a), INVALID_VALUE);
  SAME(book("misuse", "count"), 1);
  GOOD(cuMemAllocPitch_v2(&a, &pitch, 1000, 10, 16));
  SAME(pitch, 1024);
  SAME(book("bytes", "device"), 10240);
  SAME(book("bytes", "device_peak"), 1000000);
  GOOD(cuMemFree_v2(a));
  GOOD(cuMemAllocAsync(&a, 100, NULL));
  GOOD(cuMemFreeAsync(a, NULL));
  GOOD(cuCtxSynchronize());
  SAME(book("allocations", "alive"), 0);
  GOOD(cuMemHostAlloc(&host, 4096, 2));
  GOOD(cuMemAllocHost_v2(&same, 16));
  GOOD(cuMemHostGetDevicePointer_v2(&a, host, 0));
  WANT(a == (uintptr_t)host);
  GOOD(cuPointerGetAttribute(&kind, 2, a));
  SAME(kind, 1);
  SAME(cuMemFree_v2(a), INVALID_VALUE);
  GOOD(cuMemHostRegister_v2(own, sizeof own, 0));
  SAME(cuMemHostRegister_v2(own + 8, 8, 0), HOST_ALREADY_REGISTERED);
  SAME(book("host_registrations", "alive"), 1);
  GOOD(cuMemHostUnregister(own));
  SAME(cuMemHostUnregister(own), HOST_NOT_REGISTERED);
  uint64_t many[2] = {7, 7};
  GOOD(cuPointerGetAttributes(2, (int[]){2, 11}, (void *[]){&many[0], &many[1]}, (uintptr_t)own));
  WANT((unsigned)many[0] == 0 && many[1] == 0);
  GOOD(cuMemFreeHost(host));
  GOOD(cuMemFreeHost(same));
  SAME(cuMemFreeHost(same), INVALID_VALUE);
  finish();
}

// CUDA_MEMCPY2D, in the header's order.
struct plane { size_t x, y; int type; const void *host; CUdeviceptr device; void *array; size_t pitch; };
struct planes { struct plane from, to; size_t width, height; };

static void copies_case(void) {
  begin();
  unsigned char from[64], to[64];
  CUdeviceptr a, b;
  void *pinned;
  for (int i = 0; i < 64; i++) from[i] = (unsigned char)i;
  GOOD(cuMemAlloc_v2(&a, 64));
  GOOD(cuMemAlloc_v2(&b, 64));
  GOOD(cuMemHostAlloc(&pinned, 64, 0));
  GOOD(cuMemcpyHtoD_v2(a, from, 64));
  GOOD(cuMemcpyDtoD_v2(b, a, 64));
  GOOD(cuMemcpyDtoH_v2(to, b, 64));
  WANT(!memcmp(from, to, 64));
  SAME(copied("host_to_device", "bytes"), 64);
  SAME(copied("device_to_device", "bytes"), 64);
  SAME(copied("device_to_host", "calls"), 1);
  // It counts where bytes lie: under one address space a copy's name need not tell.
  GOOD(cuMemcpy(a, (uintptr_t)pinned, 32));
  SAME(copied("host_to_device", "bytes"), 96);
  GOOD(cuMemcpyDtoD_v2((uintptr_t)pinned, b, 10));
  SAME(copied("device_to_host", "bytes"), 74);
  GOOD(cuMemsetD8_v2(a, 0, 64));
  GOOD(cuMemsetD32_v2(a, 0x01020304, 2));
  GOOD(cuMemsetD2D16_v2(a + 16, 16, 0x0506, 2, 3));
  GOOD(cuMemcpyDtoH_v2(to, a, 64));
  WANT(to[0] == 4 && to[7] == 1 && to[8] == 0 && to[16] == 6 && to[19] == 5 && to[20] == 0 && to[48] == 6 && to[52] == 0);
  SAME(cuMemsetD32_v2(a + 1, 0, 1), INVALID_VALUE);
  // A rectangle of 3 by 2 bytes out of rows of 8 into rows of 4.
  struct planes planes = {{1, 2, 1, from, 0, NULL, 8}, {0, 1, 2, NULL, b, NULL, 4}, 3, 2};
  GOOD(cuMemcpy2D_v2(&planes));
  GOOD(cuMemcpyDtoH_v2(to, b, 12));
  WANT(to[4] == 17 && to[6] == 19 && to[7] == 7 && to[8] == 25);
  SAME(copied("host_to_device", "bytes"), 102);
  planes.to.y = 15;
  SAME(cuMemcpy2DAsync_v2(&planes, NULL), INVALID_VALUE);
  planes.to.type = 3;
  SAME(cuMemcpy2D_v2(&planes), NOT_SUPPORTED);
  SAME(book("misuse", "count"), 1);
  SAME(cuMemcpyHtoD_v2(a, from, 65), INVALID_VALUE);
  SAME(cuMemcpyHtoD_v2((uintptr_t)from, from, 1), INVALID_VALUE);
  SAME(cuMemcpyHtoD_v2(a, (void *)(uintptr_t)b, 1), INVALID_VALUE);
  GOOD(cuMemFree_v2(a));
  SAME(cuMemcpyDtoH_v2(to, a, 1), INVALID_VALUE);
  SAME(book("misuse", "count"), 5);
  SAME(copied("host_to_host", "calls"), 0);
  GOOD(cuMemFree_v2(b));
  GOOD(cuMemFreeHost(pinned));
  finish();
}

static void faults_case(void) {
  begin();
  CUdeviceptr memory, other;
  CUstream stream;
  // The environment said: cuMemAlloc:2=2 and cuStreamCreate:*=999.
  GOOD(cuMemAlloc_v2(&memory, 16));
  SAME(cuMemAlloc_v2(&other, 16), OUT_OF_MEMORY);
  GOOD(cuMemAlloc_v2(&other, 16));
  SAME(cuStreamCreate(&stream, 0), 999);
  SAME(cuStreamCreate(&stream, 0), 999);
  wpSoftFail("cuMemFree_v2:2+=1");
  GOOD(cuStreamCreate(&stream, 0));
  GOOD(cuMemFree_v2(other));
  SAME(cuMemFree_v2(memory), INVALID_VALUE);
  SAME(cuMemFree_v2(memory), INVALID_VALUE);
  wpSoftFail("cuStreamSynchronize:1=700");
  SAME(cuStreamSynchronize(stream), ILLEGAL_ADDRESS);
  // Sticky: rules gone, the context stays sick, even for freeing.
  wpSoftFail(NULL);
  SAME(cuMemAlloc_v2(&other, 16), ILLEGAL_ADDRESS);
  SAME(cuMemFree_v2(memory), ILLEGAL_ADDRESS);
  SAME(cuStreamQuery(stream), ILLEGAL_ADDRESS);
  SAME(cuCtxSynchronize(), ILLEGAL_ADDRESS);
  SAME(book("sticky", NULL), 1);
  SAME(book("faults", NULL), 6);
  GOOD(cuDevicePrimaryCtxReset_v2(0));
  CUcontext again;
  GOOD(cuDevicePrimaryCtxRetain(&again, 0));
  GOOD(cuMemAlloc_v2(&memory, 16));
  GOOD(cuMemFree_v2(memory));
  GOOD(cuDevicePrimaryCtxRelease_v2(0));
  finish();
  SAME(book("allocations", "reclaimed"), 1);
}

// Managed memory, since the host may follow its address.
static char *allocate(size_t size) {
  CUdeviceptr memory;
  begin();
  GOOD(cuMemAllocManaged(&memory, size, 1));
  return (char *)(uintptr_t)memory;
}

// Each of these must abort.
static void overrun_free_case(void) {
  char *memory = allocate(1000);
  memory[1000] = 1;
  cuMemFree_v2((uintptr_t)memory);
}
static void overrun_report_case(void) {
  allocate(1000)[1300] = 1;
  wpSoftReport();
}
static void underrun_exit_case(void) { allocate(1000)[-3] = 1; }
static void write_after_free_case(void) {
  char *memory = allocate(1000);
  GOOD(cuMemFree_v2((uintptr_t)memory));
  memory[7] = 1;
}
static void read_beyond_case(void) {
  volatile char *memory = allocate(1000);
  (void)memory[1023];
  (void)memory[1024];
}
static void read_after_free_case(void) {
  volatile char *memory = allocate(1000);
  GOOD(cuMemFree_v2((uintptr_t)memory));
  (void)memory[7];
}
static void host_touch_case(void) {
  CUdeviceptr memory;
  begin();
  GOOD(cuMemAlloc_v2(&memory, 1000));
  (void)((volatile char *)(uintptr_t)memory)[5];
}
static void strict_case(void) {
  char *memory = allocate(1000);
  GOOD(cuMemFree_v2((uintptr_t)memory));
  cuMemFree_v2((uintptr_t)memory);
}

int main(int count, char **words) {
  static const struct { const char *name; void (*run)(void); } cases[] = {
    {"devices", devices_case}, {"none", none_case}, {"contexts", contexts_case}, {"memory", memory_case},
    {"copies", copies_case}, {"faults", faults_case}, {"streams", streams_case}, {"kernels", kernels_case},
    {"threads", threads_case}, {"overrun-free", overrun_free_case}, {"overrun-report", overrun_report_case},
    {"underrun-exit", underrun_exit_case}, {"write-after-free", write_after_free_case}, {"strict", strict_case},
    {"read-beyond", read_beyond_case}, {"read-after-free", read_after_free_case}, {"host-touch", host_touch_case},
    {"kernel-overrun", kernel_overrun_case}, {"fence-closed", fence_closed_case},
  };
  for (size_t i = 0; count == 2 && i < sizeof cases / sizeof *cases; i++) {
    if (!strcmp(words[1], cases[i].name)) {
      cases[i].run();
      return 0;
    }
  }
  fprintf(stderr, "usage: selftest CASE\n");
  return 2;
}
