// The words of device code, for both of its compilers: nvcc, and g++ for the
// simulated device that the tests run on (SENTENCEKV_CUDA_SIM).
//
// For .cu files only. Blocks are one-dimensional, a whole number of warps.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace sentencekv {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullMask = 0xffffffffu;

// CU_SHARED(T, name, count): `count` objects of type T in the block's shared
// memory, aligned to 16 bytes; use `name` as a pointer. One on a line.
//
// DynamicShared<T>(): what the launch's shared_bytes asked for.
#ifdef SENTENCEKV_CUDA_SIM
#define CU_SHARED(T, name, count) \
  T* const name = ::cuda_sim::StaticShared<T>(count, __FILE__, __LINE__)
template <typename T>
T* DynamicShared() {
  return static_cast<T*>(::cuda_sim::DynamicSharedMemory());
}
#else
#define CU_SHARED(T, name, count) __shared__ __align__(16) T name[count]
template <typename T>
__device__ __forceinline__ T* DynamicShared() {
  extern __shared__ __align__(16) unsigned char dynamic_shared_memory[];
  return reinterpret_cast<T*>(dynamic_shared_memory);
}
#endif

__device__ __forceinline__ int LaneId() { return threadIdx.x % kWarpSize; }
__device__ __forceinline__ int WarpId() { return threadIdx.x / kWarpSize; }
__device__ __forceinline__ int NumWarps() { return blockDim.x / kWarpSize; }

// Sum and maximum over `width` neighbouring lanes (a power of two), in each of
// them. All 32 lanes of the warp call.
__device__ __forceinline__ float WarpSum(float value, int width = kWarpSize) {
  for (int distance = width / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(kFullMask, value, distance);
  }
  return value;
}
__device__ __forceinline__ float WarpMax(float value, int width = kWarpSize) {
  for (int distance = width / 2; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kFullMask, value, distance));
  }
  return value;
}

// Sum and maximum over the block, in every thread. All threads call.
__device__ __forceinline__ float BlockSum(float value) {
  CU_SHARED(float, partial, kWarpSize);
  value = WarpSum(value);
  __syncthreads();  // the readers of an earlier call are done
  if (LaneId() == 0) partial[WarpId()] = value;
  __syncthreads();
  return WarpSum(LaneId() < NumWarps() ? partial[LaneId()] : 0.0f);
}
__device__ __forceinline__ float BlockMax(float value) {
  CU_SHARED(float, partial, kWarpSize);
  value = WarpMax(value);
  __syncthreads();  // the readers of an earlier call are done
  if (LaneId() == 0) partial[WarpId()] = value;
  __syncthreads();
  return WarpMax(partial[LaneId() < NumWarps() ? LaneId() : 0]);
}

// Any stored type as float, and back (rounded to nearest even).
__device__ __forceinline__ float ToFloat(float value) { return value; }
__device__ __forceinline__ float ToFloat(__half value) {
  return __half2float(value);
}
__device__ __forceinline__ float ToFloat(__nv_bfloat16 value) {
  return __bfloat162float(value);
}
template <typename T>
__device__ __forceinline__ T FromFloat(float value);
template <>
__device__ __forceinline__ float FromFloat<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ __half FromFloat<__half>(float value) {
  return __float2half_rn(value);
}
template <>
__device__ __forceinline__ __nv_bfloat16 FromFloat<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

// `kCount` neighbours that are read and written by one access; the address is
// a multiple of their size (at most 16 bytes).
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount) Vector {
  T values[kCount];
  __device__ __forceinline__ T& operator[](int i) { return values[i]; }
  __device__ __forceinline__ const T& operator[](int i) const {
    return values[i];
  }
};
// How many of T one 16-byte access holds.
template <typename T>
inline constexpr int kPerAccess = 16 / static_cast<int>(sizeof(T));

template <typename T, int kCount = kPerAccess<T>>
__device__ __forceinline__ Vector<T, kCount> LoadVector(const T* source) {
#ifdef SENTENCEKV_CUDA_SIM
  // g++ would make it several accesses, whose alignment nobody checks.
  Vector<T, kCount> vector;
  ::cuda_sim::LoadBytes(&vector, source, sizeof(vector));
  return vector;
#else
  return *reinterpret_cast<const Vector<T, kCount>*>(source);
#endif
}
template <typename T, int kCount>
__device__ __forceinline__ void StoreVector(T* destination,
                                            const Vector<T, kCount>& vector) {
#ifdef SENTENCEKV_CUDA_SIM
  ::cuda_sim::StoreBytes(destination, &vector, sizeof(vector));
#else
  *reinterpret_cast<Vector<T, kCount>*>(destination) = vector;
#endif
}

}  // namespace sentencekv
