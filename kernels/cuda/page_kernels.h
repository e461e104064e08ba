// Copying pages of a pool, and reading keys.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/paged_kv.h"

namespace sentencekv {

// In every layer, page source[i] to page destination[i], one after the other.
struct CopyPagesLaunch {
  std::byte* pool = nullptr;  // aligned to 16 bytes
  int64_t num_layers = 0;
  int64_t layer_bytes = 0;               // multiples of 16
  int64_t page_bytes = 0;                //
  const int32_t* source = nullptr;       // [num_pages]
  const int32_t* destination = nullptr;  // [num_pages]
  int64_t num_pages = 0;
};
cudaError_t LaunchCopyPages(const CopyPagesLaunch& launch, cudaStream_t stream);

// out[i] = K of kv_head at positions[i], as f32.
struct ReadKeysLaunch {
  PagedKv kv;
  int64_t kv_head = 0;
  // Of each position: its page times kPageTokens, and its token.
  const int64_t* tokens = nullptr;  // [num_positions]
  float* out = nullptr;             // [num_positions, D]
  int64_t num_positions = 0;
};
cudaError_t LaunchReadKeys(const ReadKeysLaunch& launch, cudaStream_t stream);

}  // namespace sentencekv
