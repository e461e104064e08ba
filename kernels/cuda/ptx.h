// Instructions that CUDA C++ has no word for. The only file with PTX; each
// wrapper has a twin for the simulated device. Available from sm_80 on.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"

namespace sentencekv {

// Asynchronous copies of 16 bytes from global to shared memory; both addresses
// are multiples of 16. Where `is_there` is false the source is not read and the
// destination becomes zero. A thread sees what it copied after it has waited
// for the group; other threads after a barrier behind that.
//
//   CpAsync16(...); CpAsync16(...); CpAsyncCommit();  // one group
//   CpAsyncWait<1>();  // all but the newest 1 group are done
#ifdef SENTENCEKV_CUDA_SIM
inline void CpAsync16(void* shared, const void* global, bool is_there = true) {
  ::cuda_sim::CpAsync(shared, global, 16, is_there);
}
inline void CpAsyncCommit() { ::cuda_sim::CpAsyncCommit(); }
template <int kNewerGroups>
void CpAsyncWait() {
  ::cuda_sim::CpAsyncWait(kNewerGroups);
}
#else
__device__ __forceinline__ uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}
__device__ __forceinline__ void CpAsync16(void* shared, const void* global,
                                          bool is_there = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(
                   SharedAddress(shared)),
               "l"(__cvta_generic_to_global(global)), "r"(is_there ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void CpAsyncCommit() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}
template <int kNewerGroups>
__device__ __forceinline__ void CpAsyncWait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kNewerGroups) : "memory");
}
#endif

// Four 8 x 8 matrices of 16-bit elements from shared memory. Lane 8 m + r gives
// the address of row r of matrix m (16 bytes, a multiple of 16); afterwards
// registers[m] of lane l holds elements 2 (l % 4) and + 1 of row l / 4, with
// `Transposed` of column l / 4.
#ifdef SENTENCEKV_CUDA_SIM
inline void LoadMatrices(uint32_t (&registers)[4], const void* row) {
  ::cuda_sim::LoadMatrices(registers, row, /*transposed=*/false);
}
inline void LoadMatricesTransposed(uint32_t (&registers)[4], const void* row) {
  ::cuda_sim::LoadMatrices(registers, row, /*transposed=*/true);
}
#else
__device__ __forceinline__ void LoadMatrices(uint32_t (&registers)[4],
                                             const void* row) {
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
      : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]),
        "=r"(registers[3])
      : "r"(SharedAddress(row))
      : "memory");
}
__device__ __forceinline__ void LoadMatricesTransposed(uint32_t (&registers)[4],
                                                       const void* row) {
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, "
      "[%4];\n"
      : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]),
        "=r"(registers[3])
      : "r"(SharedAddress(row))
      : "memory");
}
#endif

// c += a b for one warp: a [16][16] and b [16][8] of T (__nv_bfloat16 or
// __half), c [16][8] f32. With g = lane / 4 and t = 2 (lane % 4), a lane holds
//   a[0] = a[g][t..t+1]    a[1] = a[g+8][t..]    a[2] = a[g][t+8..]
//   a[3] = a[g+8][t+8..]   b[0] = b[t..t+1][g]   b[1] = b[t+8..][g]
//   c[0..1] = c[g][t..t+1]   c[2..3] = c[g+8][t..t+1]
template <typename T>
__device__ __forceinline__ void Mma16x8x16(float (&c)[4],
                                           const uint32_t (&a)[4],
                                           const uint32_t (&b)[2]);
#ifdef SENTENCEKV_CUDA_SIM
template <typename T>
void Mma16x8x16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  ::cuda_sim::Mma16x8x16<T>(c, a, b);
}
#else
template <>
__device__ __forceinline__ void Mma16x8x16<__nv_bfloat16>(
    float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
      "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
__device__ __forceinline__ void Mma16x8x16<__half>(float (&c)[4],
                                                   const uint32_t (&a)[4],
                                                   const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
      "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

// 2^x, with a relative error of 2^-22; 0 where it would be below 2^-126.
#ifdef SENTENCEKV_CUDA_SIM
inline float Exp2(float x) { return x < -126.0f ? 0.0f : exp2f(x); }
#else
__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}
#endif

}  // namespace sentencekv
