// The only place that launches kernels. Never synchronises, never allocates.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/rounding.h"

namespace sentencekv {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;  // dynamic shared memory of a block
};

// Submits kernel(params) to `stream`. An empty grid is nothing to do.
template <typename Params>
cudaError_t Launch(void (*kernel)(Params), const LaunchShape& shape,
                   cudaStream_t stream, const Params& params) {
  // A kernel may use more than this only where it is allowed to by name.
  constexpr size_t kSharedBytesWithoutAsking = 48 * 1024;
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) {
    return cudaSuccess;
  }
  if (shape.shared_bytes > kSharedBytesWithoutAsking) {
    const cudaError_t error =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shape.shared_bytes));
    if (error != cudaSuccess) return error;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, params);
}

}  // namespace sentencekv
