// CUDA on the CPU: enough of its language that a kernel's source compiles unchanged as C++, and a harness that runs it.
//
// The threads of a block run one after another. One that comes to __syncthreads() is set aside on a stack of its own,
// and the next begins; when all of them wait at the same barrier they go on, one after another. A kernel without
// barriers is thus a plain loop over its threads. Every block begins with shared memory full of NaN.
//
// Absent on purpose: atomics (sums must repeat bit for bit), warp intrinsics, textures. A source that uses them does
// not compile.
#pragma once

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <tuple>
#include <type_traits>
#include <utility>

// ------------------------------------------------------------------------------------------------ the language

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __constant__ static
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static __attribute__((section("shim_shared")))
#define __syncthreads() shim::barrier(__LINE__)

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#define SHIM_VECTOR(T, NAME)                                                       \
    struct __align__(2 * sizeof(T)) NAME##2 { T x, y; };                           \
    struct NAME##3 { T x, y, z; };                                                 \
    struct __align__(sizeof(T) == 8 ? 16 : 4 * sizeof(T)) NAME##4 { T x, y, z, w; }; \
    inline NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }                     \
    inline NAME##3 make_##NAME##3(T x, T y, T z) { return {x, y, z}; }             \
    inline NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }
SHIM_VECTOR(float, float)
SHIM_VECTOR(double, double)
SHIM_VECTOR(int, int)
SHIM_VECTOR(unsigned char, uchar)

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
constexpr int warpSize = 32;

// --------------------------------------------------------------------------------------------------- functions

#define SHIM_BOTH(T)                                         \
    inline T min(T a, T b) { return b < a ? b : a; }         \
    inline T max(T a, T b) { return a < b ? b : a; }
SHIM_BOTH(int)
SHIM_BOTH(unsigned)
SHIM_BOTH(long)
SHIM_BOTH(unsigned long)
SHIM_BOTH(long long)
SHIM_BOTH(unsigned long long)
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(float a, double b) { return fmin(a, b); }
inline double min(double a, float b) { return fmin(a, b); }
inline double max(float a, double b) { return fmax(a, b); }
inline double max(double a, float b) { return fmax(a, b); }
inline unsigned min(int a, unsigned b) { return min((unsigned)a, b); }
inline unsigned min(unsigned a, int b) { return min(a, (unsigned)b); }
inline unsigned max(int a, unsigned b) { return max((unsigned)a, b); }
inline unsigned max(unsigned a, int b) { return max(a, (unsigned)b); }
#define SHIM_WITH_LONG_LONG(T)                                            \
    inline long long min(T a, long long b) { return b < a ? b : a; }      \
    inline long long min(long long a, T b) { return b < a ? b : a; }      \
    inline long long max(T a, long long b) { return a < b ? b : a; }      \
    inline long long max(long long a, T b) { return a < b ? b : a; }
SHIM_WITH_LONG_LONG(int)
SHIM_WITH_LONG_LONG(long)

inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline float __saturatef(float x) { return fminf(fmaxf(x, 0), 1); }
inline float fdividef(float x, float y) { return x / y; }
inline float __fdividef(float x, float y) { return x / y; }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dsub_rn(double x, double y) { return x - y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __ddiv_rn(double x, double y) { return x / y; }
inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
inline double __dsqrt_rn(double x) { return sqrt(x); }
inline int __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
inline int __mul24(int a, int b) { return a * b; }
inline int __float2int_rn(float x) { return (int)nearbyintf(x); }
inline int __float2int_rd(float x) { return (int)floorf(x); }
template <class T> inline T __ldg(const T *p) { return *p; }
template <class To, class From> inline To shim_bits(From x) {
    static_assert(sizeof(To) == sizeof(From));
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}
inline int __float_as_int(float x) { return shim_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return shim_bits<unsigned>(x); }
inline float __int_as_float(int x) { return shim_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return shim_bits<float>(x); }
inline long long __double_as_longlong(double x) { return shim_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return shim_bits<double>(x); }

// ------------------------------------------------------------------------------------------- threads as fibers

#ifdef __SANITIZE_ADDRESS__
extern "C" void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t size);
extern "C" void __sanitizer_finish_switch_fiber(void *save, const void **bottom, size_t *size);
#define SHIM_NO_ASAN __attribute__((no_sanitize("address"), noinline))
#else
#define SHIM_NO_ASAN __attribute__((noinline))
#endif

extern "C" __attribute__((visibility("hidden"), weak)) char __start_shim_shared[];
extern "C" __attribute__((visibility("hidden"), weak)) char __stop_shim_shared[];

namespace shim {

struct Fiber {
    const void *bottom = nullptr;  // of its stack; the harness's own is found out when the first fiber starts
    size_t size = 0;
    bool started = false;
    ucontext_t context;
    jmp_buf jump;
    void *fake = nullptr;  // the sanitizer's
    uint3 thread;
    int line = 0;  // the barrier that it waits at
};

constexpr int MOST = 1024;  // threads of a block
#ifdef __SANITIZE_ADDRESS__
constexpr size_t STACK = 32 << 10;  // the sanitizer clears its notes on all of it at each switch
#else
constexpr size_t STACK = 64 << 10;
#endif

static Fiber harness, *current = &harness;
static Fiber *fibers[MOST];
static int idle[MOST], n_idle, waiting[MOST], n_waiting, n_fibers;
static int n_threads, n_begun, n_returned, me;
static bool reverse;
static void (*body)(void *);
static void *body_argument;
static char *dynamic_shared;

SHIM_NO_ASAN static void switch_to(Fiber &from, Fiber &to) {
    current = &to;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&from.fake, to.bottom, to.size);
    swapcontext(&from.context, &to.context);
    __sanitizer_finish_switch_fiber(from.fake, nullptr, nullptr);
#else
    if (_setjmp(from.jump) == 0) {
        if (to.started || &to == &harness) _longjmp(to.jump, 1);
        to.started = true;
        setcontext(&to.context);
    }
#endif
}

static uint3 coordinates(int k) {
    unsigned t = reverse ? n_threads - 1 - k : k;
    return {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
}

static void work() {  // what a fiber does: one thread after another, for as long as they return without waiting
#ifdef __SANITIZE_ADDRESS__
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
    if (harness.bottom == nullptr) harness.bottom = bottom, harness.size = size;
#endif
    for (;;) {
        while (n_begun < n_threads) {
            threadIdx = coordinates(n_begun++);
            body(body_argument);
            n_returned++;
        }
        int self = me;
        idle[n_idle++] = self;
        switch_to(*fibers[self], harness);
    }
}

static int fiber() {  // one that is free
    if (n_idle) return idle[--n_idle];
    if (!fibers[n_fibers]) {
        Fiber *f = fibers[n_fibers] = new Fiber;
        f->bottom = malloc(STACK);
        f->size = STACK;
    }
    Fiber &f = *fibers[n_fibers];
    f.started = false;
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = const_cast<void *>(f.bottom);
    f.context.uc_stack.ss_size = STACK;
    f.context.uc_link = nullptr;
    makecontext(&f.context, work, 0);
    return n_fibers++;
}

static inline void barrier(int line) {
    int self = me;
    Fiber &f = *fibers[self];
    f.line = line;
    f.thread = threadIdx;
    waiting[n_waiting++] = self;
    switch_to(f, harness);
    threadIdx = f.thread;
}

SHIM_NO_ASAN static void poison_shared() {
    for (volatile char *p = __start_shim_shared; p < __stop_shim_shared; p++) *p = (char)0xFF;
}

static bool run_block(char *error) {
    n_begun = n_returned = n_waiting = 0;
    while (n_begun < n_threads) {
        me = fiber();
        switch_to(harness, *fibers[me]);
    }
    int released[MOST];
    while (n_waiting) {
        if (n_returned) {
            snprintf(error, 256, "__syncthreads in divergent code: %d threads wait in line %d, %d have returned",
                     n_waiting, fibers[waiting[0]]->line, n_returned);
            return false;
        }
        for (int i = 1; i < n_waiting; i++)
            if (fibers[waiting[i]]->line != fibers[waiting[0]]->line) {
                snprintf(error, 256, "__syncthreads in divergent code: threads wait in line %d and in line %d",
                         fibers[waiting[0]]->line, fibers[waiting[i]]->line);
                return false;
            }
        int n = n_waiting;
        memcpy(released, waiting, n * sizeof *waiting);
        n_waiting = 0;
        for (int i = 0; i < n; i++) {
            me = released[i];
            switch_to(harness, *fibers[me]);
        }
    }
    return true;
}

static int launch(void (*f)(void *), void *argument, const unsigned *sizes, size_t shared_bytes, int backwards,
                  char *error) {
    body = f;
    body_argument = argument;
    gridDim = dim3(sizes[0], sizes[1], sizes[2]);
    blockDim = dim3(sizes[3], sizes[4], sizes[5]);
    n_threads = blockDim.x * blockDim.y * blockDim.z;
    n_fibers = n_idle = 0;
    reverse = backwards;
    dynamic_shared = (char *)aligned_alloc(16, (shared_bytes + 15) / 16 * 16);
    unsigned long long blocks = (unsigned long long)gridDim.x * gridDim.y * gridDim.z;
    bool good = true;
    for (unsigned long long k = 0; good && k < blocks; k++) {
        unsigned long long b = reverse ? blocks - 1 - k : k;
        blockIdx = {(unsigned)(b % gridDim.x), (unsigned)(b / gridDim.x % gridDim.y),
                    (unsigned)(b / gridDim.x / gridDim.y)};
        poison_shared();
        memset(dynamic_shared, 0xFF, shared_bytes);
        good = run_block(error);
    }
    free(dynamic_shared);
    return good ? 0 : 1;
}

// ---------------------------------------------------------------------------------------- a kernel's parameters

template <class T> constexpr char code() {
    if (std::is_same_v<T, bool>) return '?';
    if (std::is_same_v<T, float> || std::is_same_v<T, float2> || std::is_same_v<T, float3> ||
        std::is_same_v<T, float4>)
        return 'f';
    if (std::is_same_v<T, double> || std::is_same_v<T, double2> || std::is_same_v<T, double3> ||
        std::is_same_v<T, double4>)
        return 'd';
    if (std::is_same_v<T, uchar2> || std::is_same_v<T, uchar4>) return 'B';
    if (std::is_same_v<T, int2> || std::is_same_v<T, int4>) return 'i';
    if (std::is_pointer_v<T>) return 'P';
    if (std::is_integral_v<T>) {
        constexpr bool u = std::is_unsigned_v<T>;
        return sizeof(T) == 1 ? (u ? 'B' : 'b') : sizeof(T) == 2 ? (u ? 'H' : 'h') : sizeof(T) == 4 ? (u ? 'I' : 'i')
                                                                                                    : (u ? 'Q' : 'q');
    }
    return 'V';  // a struct, or void
}

template <class T> struct size_of { static constexpr int value = sizeof(T), align = alignof(T); };
template <> struct size_of<void> { static constexpr int value = 1, align = 1; };

template <class A> void describe_one(int *out) {  // pointer?, constant?, the code, size and alignment of what it is
    using T = std::remove_pointer_t<A>;
    using bare = std::remove_cv_t<T>;
    out[0] = std::is_pointer_v<A>;
    out[1] = std::is_const_v<T>;
    out[2] = code<bare>();
    out[3] = size_of<bare>::value;
    out[4] = size_of<bare>::align;
}

template <class... A> int describe(void (*)(A...), int *out) {
    int i = 0;
    (describe_one<std::remove_cv_t<A>>(out + 5 * i++), ...);
    return sizeof...(A);
}

template <class... A> struct Call {
    void (*kernel)(A...);
    std::tuple<std::remove_cv_t<A>...> values;
    static void run(void *self) { std::apply(((Call *)self)->kernel, ((Call *)self)->values); }
};

template <class... A, size_t... I>
int launch(void (*kernel)(A...), void **args, const unsigned *sizes, size_t shared_bytes, int backwards, char *error,
           std::index_sequence<I...>) {
    Call<A...> call;
    call.kernel = kernel;
    (memcpy((void *)&std::get<I>(call.values), args[I], sizeof(std::get<I>(call.values))), ...);
    return launch(Call<A...>::run, &call, sizes, shared_bytes, backwards, error);
}

template <class... A>
int launch(void (*kernel)(A...), void **args, const unsigned *sizes, size_t shared_bytes, int backwards, char *error) {
    return launch(kernel, args, sizes, shared_bytes, backwards, error, std::index_sequence_for<A...>());
}

}  // namespace shim

#define SHIM_KERNEL(NAME)                                                                                         \
    extern "C" __attribute__((visibility("default"))) int shim_describe_##NAME(int *out) {                        \
        return shim::describe(NAME, out);                                                                         \
    }                                                                                                             \
    extern "C" __attribute__((visibility("default"))) int shim_launch_##NAME(                                     \
        void **args, const unsigned *sizes, size_t shared_bytes, int backwards, char *error) {                    \
        return shim::launch(NAME, args, sizes, shared_bytes, backwards, error);                                   \
    }
