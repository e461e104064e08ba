// What a single thread can call in device code and g++ does not have: loads and
// stores with cache hints, bit operations, conversions, atomics.
#pragma once

#include <cmath>
#include <cstring>
#include <type_traits>

#include "cuda_sim/fiber_calls.h"

// Loads and stores are instrumented like any other of the kernel.
#define CUDA_SIM_LOAD(name)                                \
  template <typename T>                                    \
  [[gnu::always_inline]] inline T name(const T* address) { \
    return *address;                                       \
  }
#define CUDA_SIM_STORE(name)                                     \
  template <typename T>                                          \
  [[gnu::always_inline]] inline void name(T* address, T value) { \
    *address = value;                                            \
  }
CUDA_SIM_LOAD(__ldg)
CUDA_SIM_LOAD(__ldcg)
CUDA_SIM_LOAD(__ldca)
CUDA_SIM_LOAD(__ldcs)
CUDA_SIM_STORE(__stcg)
CUDA_SIM_STORE(__stcs)
CUDA_SIM_STORE(__stwb)
#undef CUDA_SIM_LOAD
#undef CUDA_SIM_STORE

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) {
  return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x));
}
inline int __clzll(long long x) {
  return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x));
}

// sum + the products of the four signed bytes of a and b.
inline int __dp4a(int a, int b, int sum) {
  for (int shift = 0; shift < 32; shift += 8) {
    sum += static_cast<signed char>(a >> shift) *
           static_cast<signed char>(b >> shift);
  }
  return sum;
}

namespace cuda_sim {
template <typename To, typename From>
CUDA_SIM_OWN To BitsAs(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}
}  // namespace cuda_sim
inline unsigned __float_as_uint(float x) {
  return cuda_sim::BitsAs<unsigned>(x);
}
inline int __float_as_int(float x) { return cuda_sim::BitsAs<int>(x); }
inline float __uint_as_float(unsigned x) { return cuda_sim::BitsAs<float>(x); }
inline float __int_as_float(int x) { return cuda_sim::BitsAs<float>(x); }

inline float __saturatef(float x) { return std::fmin(std::fmax(x, 0.f), 1.f); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }

#define CUDA_SIM_MIN_MAX(T)                        \
  inline T min(T a, T b) { return b < a ? b : a; } \
  inline T max(T a, T b) { return a < b ? b : a; }
CUDA_SIM_MIN_MAX(int)
CUDA_SIM_MIN_MAX(unsigned)
CUDA_SIM_MIN_MAX(long)
CUDA_SIM_MIN_MAX(unsigned long)
CUDA_SIM_MIN_MAX(long long)
CUDA_SIM_MIN_MAX(unsigned long long)
#undef CUDA_SIM_MIN_MAX
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }

inline void __threadfence(cuda_sim::Place place = cuda_sim::Here()) {
  cuda_sim::ThreadFence(place);
}
inline void __threadfence_block(cuda_sim::Place place = cuda_sim::Here()) {
  cuda_sim::ThreadFence(place);
}

// old = *address; *address = kCombine(old, value); gives old.
#define CUDA_SIM_ATOMIC(name, expression)                         \
  template <typename T>                                           \
  CUDA_SIM_OWN T name(T* address, std::type_identity_t<T> value,  \
                      cuda_sim::Place place = cuda_sim::Here()) { \
    cuda_sim::CheckAtomic(address, sizeof(T), place);             \
    const T old = *address;                                       \
    *address = expression;                                        \
    return old;                                                   \
  }
CUDA_SIM_ATOMIC(atomicAdd, old + value)
CUDA_SIM_ATOMIC(atomicSub, old - value)
CUDA_SIM_ATOMIC(atomicMin, value < old ? value : old)
CUDA_SIM_ATOMIC(atomicMax, old < value ? value : old)
CUDA_SIM_ATOMIC(atomicOr, old | value)
CUDA_SIM_ATOMIC(atomicAnd, old& value)
CUDA_SIM_ATOMIC(atomicExch, value)
CUDA_SIM_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
#undef CUDA_SIM_ATOMIC
template <typename T>
CUDA_SIM_OWN T atomicCAS(T* address, std::type_identity_t<T> expected,
                         std::type_identity_t<T> value,
                         cuda_sim::Place place = cuda_sim::Here()) {
  cuda_sim::CheckAtomic(address, sizeof(T), place);
  const T old = *address;
  if (old == expected) *address = value;
  return old;
}
