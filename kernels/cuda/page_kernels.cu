// CopyPages: a thread takes 16 bytes of a page of one layer, and copies them
// for one pair of pages after the other: so a later copy reads what an earlier
// one wrote, as on the CPU. Grid: blocks of 256 threads over all layers' pages.
//
// ReadKeys: a block of 64 threads for each position; lanes read neighbouring
// elements. No shared memory; any head size.
#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/page_kernels.h"

namespace sentencekv {
namespace {

constexpr int kCopyThreads = 256;
constexpr int kKeyThreads = 64;

using Piece = Vector<uint32_t, 4>;  // 16 bytes

__global__ void __launch_bounds__(kCopyThreads)
    CopyPagesKernel(CopyPagesLaunch p) {
  const int64_t pieces = p.page_bytes / static_cast<int64_t>(sizeof(Piece));
  const int64_t i =
      static_cast<int64_t>(blockIdx.x) * kCopyThreads + threadIdx.x;
  if (i >= p.num_layers * pieces) return;
  std::byte* mine = p.pool + i / pieces * p.layer_bytes +
                    i % pieces * static_cast<int64_t>(sizeof(Piece));
  for (int64_t page = 0; page < p.num_pages; ++page) {
    const auto* from =
        reinterpret_cast<const uint32_t*>(mine + p.source[page] * p.page_bytes);
    auto* to =
        reinterpret_cast<uint32_t*>(mine + p.destination[page] * p.page_bytes);
    StoreVector(to, LoadVector(from));
  }
}

template <typename T>
__global__ void __launch_bounds__(kKeyThreads)
    ReadKeysKernel(ReadKeysLaunch p) {
  const int64_t token = p.tokens[blockIdx.x];
  const T* key = reinterpret_cast<const T*>(
                     p.kv.base + token / kPageTokens * p.kv.page_stride +
                     p.kv_head * p.kv.head_stride) +
                 token % kPageTokens * p.kv.head_dim;
  float* out = p.out + static_cast<int64_t>(blockIdx.x) * p.kv.head_dim;
  for (int64_t d = threadIdx.x; d < p.kv.head_dim; d += kKeyThreads) {
    out[d] = ToFloat(key[d]);
  }
}

}  // namespace

cudaError_t LaunchCopyPages(const CopyPagesLaunch& launch,
                            cudaStream_t stream) {
  const auto piece = static_cast<int64_t>(sizeof(Piece));
  if (reinterpret_cast<uintptr_t>(launch.pool) % sizeof(Piece) != 0 ||
      launch.page_bytes % piece != 0) {
    return cudaErrorMisalignedAddress;
  }
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>(
      CeilDiv(launch.num_layers * (launch.page_bytes / piece), kCopyThreads)));
  shape.block = dim3(kCopyThreads);
  return Launch(CopyPagesKernel, shape, stream, launch);
}

cudaError_t LaunchReadKeys(const ReadKeysLaunch& launch, cudaStream_t stream) {
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>(launch.num_positions));
  shape.block = dim3(kKeyThreads);
  switch (launch.kv.dtype) {
    case DType::kF32:
      return Launch(ReadKeysKernel<float>, shape, stream, launch);
    case DType::kF16:
      return Launch(ReadKeysKernel<__half>, shape, stream, launch);
    case DType::kBF16:
      return Launch(ReadKeysKernel<__nv_bfloat16>, shape, stream, launch);
  }
  return cudaErrorInvalidValue;
}

}  // namespace sentencekv
