// The matrix instructions of ptx.h on one warp: what their twins on the
// simulated device must do.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace sentencekv {

// out [16][8] f32 = a [16][16] b, with b given as rows [8][16] or, transposed,
// as [16][8]; 16-bit elements.
struct MatrixLaunch {
  float* out = nullptr;
  const uint16_t* a = nullptr;
  const uint16_t* b = nullptr;
  bool is_bf16 = true;
  bool is_b_transposed = false;
};

cudaError_t LaunchMatrix(const MatrixLaunch& launch, cudaStream_t stream);

}  // namespace sentencekv
