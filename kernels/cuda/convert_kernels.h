// Rows of activations for the tensor cores: f32 to bf16.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace sentencekv {

struct ConvertLaunch {
  const float* input = nullptr;  // [count]
  void* output = nullptr;        // [count] bf16, rounded to nearest even
  int64_t count = 0;
};

cudaError_t LaunchConvert(const ConvertLaunch& launch, cudaStream_t stream);

}  // namespace sentencekv
