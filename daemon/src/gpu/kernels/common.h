// What every kernel file includes: the words that let one source be a CUDA kernel and a plain C++ function.
//
// In: a file compiled as CUDA for the device (clang, no CUDA headers), or as C++14 for the host. Out, on the device:
// kernels named NAME. Out, on the host: for each kernel
//     extern "C" void NAME__host(unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
//                                void** params)
// which runs the kernel for every thread of such a grid, one after the other; `params` are pointers to the
// arguments, as cuLaunchKernel takes them. So kernels share no memory between threads and never wait for each
// other; the only thing threads may do together is to count (`take`).
//
// A kernel sees where it is as `at`: the thread's index in the whole grid. Every kernel leaves at once where `at` lies
// outside its work, so any block shape will do.
//
// Numbers: compile both ways with -ffp-contract=off. Then both round after every multiplication and addition, as the
// CPU lane does, and the lanes agree to the last bit where the kernels say so.
//
// Method: LLVM, "User Guide for NVPTX Back-end" (special registers); CUDA C++ Programming Guide (thread hierarchy).
#pragma once

static_assert(sizeof(void*) == 8 && sizeof(int) == 4 && sizeof(float) == 4, "the host's structs are 64-bit ones");

// Index of a thread in the whole grid.
struct At {
    int x, y, z;
};

#if defined(__CUDA__)

#define DEVICE __attribute__((device)) __attribute__((always_inline)) inline
#define KERNEL_ENTRY(NAME, DECLARED, PASSED)                                                        \
    extern "C" __attribute__((global)) void NAME DECLARED {                                         \
        const At at = {int(__nvvm_read_ptx_sreg_ctaid_x() * __nvvm_read_ptx_sreg_ntid_x() +         \
                           __nvvm_read_ptx_sreg_tid_x()),                                           \
                       int(__nvvm_read_ptx_sreg_ctaid_y() * __nvvm_read_ptx_sreg_ntid_y() +         \
                           __nvvm_read_ptx_sreg_tid_y()),                                           \
                       int(__nvvm_read_ptx_sreg_ctaid_z() * __nvvm_read_ptx_sreg_ntid_z() +         \
                           __nvvm_read_ptx_sreg_tid_z())};                                          \
        NAME##__body PASSED;                                                                        \
    }

#else

#define DEVICE static inline
#define KERNEL_ENTRY(NAME, DECLARED, PASSED)                                                        \
    extern "C" void NAME##__host(unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,   \
                                 unsigned bz, void** params) {                                      \
        for (unsigned z = 0; z < gz * bz; ++z)                                                      \
            for (unsigned y = 0; y < gy * by; ++y)                                                  \
                for (unsigned x = 0; x < gx * bx; ++x) {                                            \
                    const At at = {int(x), int(y), int(z)};                                         \
                    NAME##__body PASSED;                                                            \
                }                                                                                   \
    }

#endif

// KERNEL2(name, type, argument, type, argument) { body } and the same for other numbers of arguments. The body is a
// function of its own, which sees `at` and the arguments as constants. On the host arguments come from `params`.
#if defined(__CUDA__)
#define ARGUMENT(INDEX, TYPE, NAME) NAME
#else
#define ARGUMENT(INDEX, TYPE, NAME) *static_cast<TYPE const*>(params[INDEX])
#endif
#define KERNEL1(NAME, A, a)                                                  \
    DEVICE void NAME##__body(const At& at, A const& a);                      \
    KERNEL_ENTRY(NAME, (A const a), (at, ARGUMENT(0, A, a)))                 \
    DEVICE void NAME##__body(const At& at, A const& a)
#define KERNEL2(NAME, A, a, B, b)                                                        \
    DEVICE void NAME##__body(const At& at, A const& a, B const& b);                      \
    KERNEL_ENTRY(NAME, (A const a, B const b), (at, ARGUMENT(0, A, a), ARGUMENT(1, B, b))) \
    DEVICE void NAME##__body(const At& at, A const& a, B const& b)
#define KERNEL3(NAME, A, a, B, b, C, c)                                                      \
    DEVICE void NAME##__body(const At& at, A const& a, B const& b, C const& c);              \
    KERNEL_ENTRY(NAME, (A const a, B const b, C const c),                                    \
                 (at, ARGUMENT(0, A, a), ARGUMENT(1, B, b), ARGUMENT(2, C, c)))              \
    DEVICE void NAME##__body(const At& at, A const& a, B const& b, C const& c)
#define KERNEL4(NAME, A, a, B, b, C, c, D, d)                                                \
    DEVICE void NAME##__body(const At& at, A const& a, B const& b, C const& c, D const& d);  \
    KERNEL_ENTRY(NAME, (A const a, B const b, C const c, D const d),                         \
                 (at, ARGUMENT(0, A, a), ARGUMENT(1, B, b), ARGUMENT(2, C, c), ARGUMENT(3, D, d))) \
    DEVICE void NAME##__body(const At& at, A const& a, B const& b, C const& c, D const& d)

// The smaller of two whole numbers.
DEVICE int least(int a, int b) { return a < b ? a : b; }

// Takes the next number from a counter that all threads share: each number once, in no particular order.
DEVICE int take(int* counter) { return __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED); }

// Whether a number is neither infinite nor none.
DEVICE bool finite(float value) { return value - value == 0.0f; }
