// The self-test's cases about time: streams, events, kernels, threads. They run with and without WATCHPOST_SOFT_ASYNC.
//
// In: WATCHPOST_SOFT_KERNELS, the library of selftest_kernels.c. Out: as selftest.c. Who owns: nothing stays.
// What fails: the first wrong value; with workers, also a missing synchronisation that did not show.
#include "selftest.h"

#include <stdatomic.h>

static const char PTX[] =
  "//\n// as a compiler writes it; .entry ignored(.param .u64 x)\n//\n.version 6.0\n.target sm_60\n.address_size 64\n"
  ".visible .entry add(\n  .param .u64 add_param_0,\n  .param .u64 .ptr .global .align 4 add_param_1,\n"
  "  .param .u32 add_param_2\n)\n.maxntid 256, 1, 1\n{ ret; }\n"
  ".visible .entry fill(.param .align 8 .b8 fill_param_0[24]) { ret; }\n"
  ".visible .entry sum(.param .u64 lists, .param .u64 out) { ret; }\n"
  ".visible .entry missing(.param .u32 p) { ret; }\n";

static bool is_async(void) { return getenv("WATCHPOST_SOFT_ASYNC") != NULL; }
static void note(void *flag) { atomic_store((atomic_int *)flag, 1); }

void streams_case(void) {
  begin();
  CUstream one, two;
  CUevent event, later;
  CUdeviceptr a;
  unsigned char *pinned, pageable[256];
  float milliseconds;
  atomic_int called = 0;
  GOOD(cuMemAlloc_v2(&a, 256));
  GOOD(cuMemHostAlloc((void **)&pinned, 256, 0));
  GOOD(cuStreamCreate(&one, 1));
  GOOD(cuStreamCreate(&two, 1));
  GOOD(cuEventCreate(&event, 0));
  GOOD(cuEventCreate(&later, 0));
  GOOD(cuEventQuery(event));
  // Whoever does not wait reads what was there before.
  memset(pinned, 1, 256);
  GOOD(cuMemsetD8Async(a, 7, 256, one));
  GOOD(cuMemcpyDtoHAsync_v2(pinned, a, 256, one));
  SAME(pinned[255], is_async() ? 1 : 7);
  SAME(cuStreamQuery(one), is_async() ? NOT_READY : OK);
  GOOD(cuStreamSynchronize(one));
  SAME(pinned[255], 7);
  // Between streams an event orders; without it the second stream overtakes the first.
  GOOD(cuMemsetD8Async(a, 8, 256, one));
  GOOD(cuMemcpyDtoHAsync_v2(pinned, a, 256, two));
  GOOD(cuStreamSynchronize(two));
  SAME(pinned[0], is_async() ? 7 : 8);
  GOOD(cuMemsetD8Async(a, 9, 256, one));
  GOOD(cuEventRecord(event, one));
  SAME(cuEventQuery(event), is_async() ? NOT_READY : OK);
  GOOD(cuStreamWaitEvent(two, event, 0));
  GOOD(cuMemcpyDtoHAsync_v2(pinned, a, 256, two));
  GOOD(cuStreamSynchronize(two));
  SAME(pinned[0], 9);
  GOOD(cuEventRecord(later, two));
  SAME(cuEventElapsedTime(&milliseconds, event, later), is_async() ? NOT_READY : OK);
  GOOD(cuEventSynchronize(later));
  GOOD(cuEventElapsedTime(&milliseconds, event, later));
  WANT(milliseconds >= 0 && milliseconds < 10000);
  // Pageable memory is read before the call returns and written before it returns, as on a device.
  memset(pageable, 3, 256);
  GOOD(cuMemcpyHtoDAsync_v2(a, pageable, 256, one));
  memset(pageable, 4, 256);
  GOOD(cuMemcpyDtoHAsync_v2(pageable, a, 256, one));
  SAME(pageable[0], 3);
  // The legacy stream waits for blocking streams, and they for it; others it passes by.
  CUstream blocking;
  GOOD(cuStreamCreate(&blocking, 0));
  GOOD(cuMemsetD8Async(a, 5, 256, blocking));
  GOOD(cuMemcpyDtoH_v2(pageable, a, 256));
  SAME(pageable[9], 5);
  GOOD(cuLaunchHostFunc(one, note, &called));
  SAME(atomic_load(&called), is_async() ? 0 : 1);
  // A destroyed stream finishes its work, a free waits for the device.
  GOOD(cuMemsetD8Async(a, 6, 256, one));
  GOOD(cuMemcpyDtoHAsync_v2(pinned, a, 256, one));
  GOOD(cuStreamDestroy_v2(one));
  SAME(cuStreamSynchronize(one), INVALID_HANDLE);
  GOOD(cuMemFree_v2(a));
  SAME(pinned[1], 6);
  SAME(atomic_load(&called), 1);
  GOOD(cuStreamDestroy_v2(two));
  GOOD(cuStreamDestroy_v2(blocking));
  GOOD(cuEventDestroy_v2(event));
  SAME(cuEventRecord(event, NULL), INVALID_HANDLE);
  GOOD(cuEventDestroy_v2(later));
  GOOD(cuMemFreeHost(pinned));
  SAME(book("streams", "created"), 3);
  SAME(book("streams", "peak"), 3);
  finish();
}

void kernels_case(void) {
  begin();
  CUmodule module;
  CUfunction add, fill, again;
  CUstream stream;
  CUdeviceptr a, sum;
  unsigned values[100], count = 100;
  char log[100];
  SAME(cuModuleLoadData(&module, "nothing that a compiler wrote"), INVALID_IMAGE);
  SAME(cuModuleLoadData(&module, ".version 9.5\n.target sm_60\n"), UNSUPPORTED_PTX_VERSION);
  SAME(cuModuleLoadDataEx(&module, ".version 6.0\n.target sm_90\n", 2, (int[]){5, 6}, (void *[]){log, (void *)sizeof log}),
       NO_BINARY_FOR_GPU);
  WANT(strstr(log, "sm_90"));
  GOOD(cuModuleLoadData(&module, PTX));
  GOOD(cuModuleGetFunction(&add, module, "add"));
  GOOD(cuModuleGetFunction(&again, module, "add"));
  WANT(add == again);
  GOOD(cuModuleGetFunction(&fill, module, "fill"));
  SAME(cuModuleGetFunction(&again, module, "ignored"), NOT_FOUND);
  SAME(cuModuleGetFunction(&again, module, "missing"), NOT_FOUND);
  GOOD(cuStreamCreate(&stream, 1));
  GOOD(cuMemAlloc_v2(&a, sizeof values));
  GOOD(cuMemAlloc_v2(&sum, sizeof values));
  struct { CUdeviceptr at; unsigned first, step; size_t count; } range = {a, 10, 2, 100};
  GOOD(cuLaunchKernel(fill, 1, 1, 1, 100, 1, 1, 0, stream, (void *[]){&range}, NULL));
  GOOD(cuMemsetD8Async(sum, 0, sizeof values, stream));
  // The values of parameters are taken at the call: what happens to the variables afterwards is nobody's business.
  GOOD(cuLaunchKernel(add, 4, 1, 1, 32, 1, 1, 0, stream, (void *[]){&sum, &a, &count}, NULL));
  range.at = 0;
  count = 0;
  CUdeviceptr keep = a;
  a = 0;
  GOOD(cuMemcpyDtoHAsync_v2(values, sum, sizeof values, stream));
  GOOD(cuStreamSynchronize(stream));
  SAME(values[0], 10);
  SAME(values[99], 208);
  SAME(book("launches", "add"), 1);
  SAME(book("launches", "fill"), 1);
  // Addresses in device memory are the device's, and a kernel follows them; the fence is closed again when it ends.
  CUfunction of;
  CUdeviceptr lists, total, both[2] = {keep, sum};
  unsigned found;
  GOOD(cuModuleGetFunction(&of, module, "sum"));
  GOOD(cuMemAlloc_v2(&lists, sizeof both));
  GOOD(cuMemAlloc_v2(&total, sizeof found));
  GOOD(cuMemcpyHtoD_v2(lists, both, sizeof both));
  for (int round = 0; round < 2; round++) {
    GOOD(cuLaunchKernel(of, 2, 1, 1, 1, 1, 1, 0, stream, (void *[]){&lists, &total}, NULL));
    GOOD(cuStreamSynchronize(stream));
    GOOD(cuMemcpyDtoH_v2(&found, total, sizeof found));
    SAME(found, 32);
  }
  GOOD(cuMemFree_v2(lists));
  GOOD(cuMemFree_v2(total));
  SAME(cuLaunchKernel(add, 0, 1, 1, 1, 1, 1, 0, stream, (void *[]){&sum, &a, &count}, NULL), INVALID_VALUE);
  SAME(cuLaunchKernel(add, 1, 1, 1, 1024, 2, 1, 0, stream, (void *[]){&sum, &a, &count}, NULL), INVALID_VALUE);
  // Freed memory behind a parameter is what an illegal address is on a device: the end of the context.
  GOOD(cuMemFree_v2(keep));
  count = 100;
  cuLaunchKernel(add, 4, 1, 1, 32, 1, 1, 0, stream, (void *[]){&sum, &keep, &count}, NULL);
  SAME(cuStreamSynchronize(stream), ILLEGAL_ADDRESS);
  SAME(cuModuleUnload(module), ILLEGAL_ADDRESS);
  GOOD(cuDevicePrimaryCtxReset_v2(0));
  SAME(book("modules", "reclaimed"), 1);
  finish();
}

// Must abort: a kernel that writes one number too many.
void kernel_overrun_case(void) {
  begin();
  CUmodule module;
  CUfunction fill;
  struct { CUdeviceptr at; unsigned first, step; size_t count; } range = {0, 0, 0, 101};
  GOOD(cuModuleLoadData(&module, PTX));
  GOOD(cuModuleGetFunction(&fill, module, "fill"));
  GOOD(cuMemAlloc_v2(&range.at, 100 * sizeof(unsigned)));
  GOOD(cuLaunchKernel(fill, 2, 1, 1, 100, 1, 1, 0, NULL, (void *[]){&range}, NULL));
  cuMemFree_v2(range.at);
}

// Must abort: what a kernel may follow the host may not, also after the kernel did.
void fence_closed_case(void) {
  begin();
  CUmodule module;
  CUfunction of;
  CUdeviceptr lists, total, both[2];
  GOOD(cuModuleLoadData(&module, PTX));
  GOOD(cuModuleGetFunction(&of, module, "sum"));
  for (int i = 0; i < 2; i++) GOOD(cuMemAlloc_v2(&both[i], 400));
  GOOD(cuMemAlloc_v2(&lists, sizeof both));
  GOOD(cuMemAlloc_v2(&total, 4));
  GOOD(cuMemcpyHtoD_v2(lists, both, sizeof both));
  GOOD(cuLaunchKernel(of, 2, 1, 1, 1, 1, 1, 0, NULL, (void *[]){&lists, &total}, NULL));
  GOOD(cuCtxSynchronize());
  (void)((volatile char *)(uintptr_t)both[1])[5];
}

// Many threads, each with its stream: the books must balance and nothing may hang.
static void *worker(void *context) {
  GOOD(cuCtxSetCurrent(context));
  for (int round = 0; round < 30; round++) {
    CUstream stream;
    CUevent event;
    CUdeviceptr memory;
    unsigned char back[512];
    GOOD(cuStreamCreate(&stream, round & 1));
    GOOD(cuEventCreate(&event, 2));
    GOOD(cuMemAllocAsync(&memory, 512, stream));
    GOOD(cuMemsetD8Async(memory, (unsigned char)round, 512, stream));
    // Only with a blocking stream is work on the legacy stream in order with it.
    if (!(round & 1)) GOOD(cuMemsetD8_v2(memory, (unsigned char)round, 512));
    GOOD(cuEventRecord(event, stream));
    GOOD(cuMemcpyDtoHAsync_v2(back, memory, 512, stream));
    SAME(back[511], round);
    GOOD(cuEventSynchronize(event));
    GOOD(cuMemFreeAsync(memory, stream));
    GOOD(cuStreamSynchronize(stream));
    GOOD(cuEventDestroy_v2(event));
    GOOD(cuStreamDestroy_v2(stream));
    wpSoftReport();
  }
  return NULL;
}

void threads_case(void) {
  CUcontext context = begin();
  pthread_t threads[8];
  for (int i = 0; i < 8; i++) WANT(!pthread_create(&threads[i], NULL, worker, context));
  for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
  SAME(book("device_to_host", "bytes"), 8 * 30 * 512);
  finish();
}
