// output[i] = bf16(input[i]).
//
// Grid: as many blocks as keep a GPU busy, each strides over the elements.
// Block: 256 threads, one element a thread and stride. No shared memory, no
// alignment beyond the elements', any count.
#include "kernels/cuda/convert_kernels.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"

namespace sentencekv {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 1024;

__global__ void __launch_bounds__(kThreads) ConvertKernel(ConvertLaunch p) {
  auto* output = static_cast<__nv_bfloat16*>(p.output);
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  for (; i < p.count; i += stride) {
    output[i] = FromFloat<__nv_bfloat16>(p.input[i]);
  }
}

}  // namespace

cudaError_t LaunchConvert(const ConvertLaunch& launch, cudaStream_t stream) {
  int64_t blocks = CeilDiv(launch.count, kThreads);
  if (blocks > kMaxBlocks) blocks = kMaxBlocks;
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>(blocks));
  shape.block = dim3(kThreads);
  return Launch(ConvertKernel, shape, stream, launch);
}

}  // namespace sentencekv
