// RopeTable: cos_sin[t, i] = {cos, sin}(positions[t] inverse_frequency[i])
// times magnitude. A thread for each pair, in double: a position of millions
// leaves an f32 angle no fraction to speak of.
//
// RopeStore: turns the pairs (x0, x1) of a head, {x0 cos - x1 sin, x0 sin + x1
// cos}; q stays in qkv, K and V go to their slots. A block of 64 threads for
// each row (grid x) and head (grid y): q heads, k heads, v heads. A thread
// takes a pair, or a dimension that is not turned; neighbouring lanes write
// neighbouring elements. No shared memory, no alignment beyond the elements'.
#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/rope_kernels.h"

namespace sentencekv {
namespace {

constexpr int kTableThreads = 256;
constexpr int kHeadThreads = 64;

__global__ void __launch_bounds__(kTableThreads)
    RopeTableKernel(RopeTableLaunch p) {
  const int64_t i =
      static_cast<int64_t>(blockIdx.x) * kTableThreads + threadIdx.x;
  if (i >= p.num_tokens * p.half_dims) return;
  const double angle =
      static_cast<double>(p.positions[i / p.half_dims]) *
      static_cast<double>(p.inverse_frequency[i % p.half_dims]);
  const double magnitude = p.magnitude;
  p.cos_sin[2 * i] = static_cast<float>(cos(angle) * magnitude);
  p.cos_sin[2 * i + 1] = static_cast<float>(sin(angle) * magnitude);
}

// out = the head `x`, turned; dimensions from R on are left as they are. `out`
// may be `x`: a pair is read and written by one thread.
template <typename T>
__device__ __forceinline__ void TurnHead(const RopeStoreLaunch& p, int64_t row,
                                         const float* x, T* out) {
  const int half = static_cast<int>(p.rotary_dims / 2);
  const float* cos_sin = p.cos_sin + row * p.rotary_dims;
  const bool is_interleaved = p.layout == RopeLayout::kInterleaved;
  for (int i = threadIdx.x; i < half; i += kHeadThreads) {
    const int first = is_interleaved ? 2 * i : i;
    const int second = is_interleaved ? 2 * i + 1 : i + half;
    const float cosine = cos_sin[2 * i];
    const float sine = cos_sin[2 * i + 1];
    const float x0 = x[first];
    const float x1 = x[second];
    out[first] = FromFloat<T>(x0 * cosine - x1 * sine);
    out[second] = FromFloat<T>(x0 * sine + x1 * cosine);
  }
  if (static_cast<const void*>(out) == x) return;
  for (int i = 2 * half + threadIdx.x; i < p.kv.head_dim; i += kHeadThreads) {
    out[i] = FromFloat<T>(x[i]);
  }
}

template <typename T>
__global__ void __launch_bounds__(kHeadThreads)
    RopeStoreKernel(RopeStoreLaunch p) {
  const RowSlot slot = p.slots[blockIdx.x];
  if (slot.row < 0) return;  // no barrier follows
  const int64_t head = blockIdx.y;
  const int64_t dim = p.kv.head_dim;
  const int64_t num_kv_heads = p.kv.num_kv_heads;
  float* x = p.qkv + (slot.row * (p.num_heads + 2 * num_kv_heads) + head) * dim;
  if (head < p.num_heads) {
    TurnHead(p, slot.row, x, x);
    return;
  }
  const bool is_key = head < p.num_heads + num_kv_heads;
  const int64_t kv_head = head - p.num_heads - (is_key ? 0 : num_kv_heads);
  T* keys = reinterpret_cast<T*>(p.kv.base + slot.page * p.kv.page_stride +
                                 kv_head * p.kv.head_stride);
  if (is_key) {
    TurnHead(p, slot.row, x, keys + slot.token * dim);
    return;
  }
  T* value = keys + (kPageTokens + slot.token) * dim;
  for (int i = threadIdx.x; i < dim; i += kHeadThreads) {
    value[i] = FromFloat<T>(x[i]);
  }
}

}  // namespace

cudaError_t LaunchRopeTable(const RopeTableLaunch& launch,
                            cudaStream_t stream) {
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>(
      CeilDiv(launch.num_tokens * launch.half_dims, kTableThreads)));
  shape.block = dim3(kTableThreads);
  return Launch(RopeTableKernel, shape, stream, launch);
}

cudaError_t LaunchRopeStore(const RopeStoreLaunch& launch,
                            cudaStream_t stream) {
  LaunchShape shape;
  shape.grid = dim3(
      static_cast<unsigned>(launch.num_slots),
      static_cast<unsigned>(launch.num_heads + 2 * launch.kv.num_kv_heads));
  shape.block = dim3(kHeadThreads);
  switch (launch.kv.dtype) {
    case DType::kF32:
      return Launch(RopeStoreKernel<float>, shape, stream, launch);
    case DType::kF16:
      return Launch(RopeStoreKernel<__half>, shape, stream, launch);
    case DType::kBF16:
      return Launch(RopeStoreKernel<__nv_bfloat16>, shape, stream, launch);
  }
  return cudaErrorInvalidValue;
}

}  // namespace sentencekv
