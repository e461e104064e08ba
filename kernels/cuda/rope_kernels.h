// Rotary embedding (RoFormer, https://arxiv.org/abs/2104.09864), and writing K
// and V to their pages.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/paged_kv.h"
#include "kernels/op_params.h"

namespace sentencekv {

// RopeTableParams in device memory.
struct RopeTableLaunch {
  const int32_t* positions = nullptr;        // [num_tokens]
  const float* inverse_frequency = nullptr;  // [half_dims]
  float* cos_sin = nullptr;                  // [num_tokens, half_dims, 2]
  int64_t num_tokens = 0;
  int64_t half_dims = 0;
  float magnitude = 1.0f;
  bool operator==(const RopeTableLaunch&) const = default;
};
cudaError_t LaunchRopeTable(const RopeTableLaunch& launch, cudaStream_t stream);

// A row of the step, and the slot of its K and V.
struct RowSlot {
  int32_t row = 0;  // negative: there is none
  int32_t page = 0;
  int32_t token = 0;  // of the page
};

// RopeStoreKvParams in device memory. Each row and each slot at most once.
struct RopeStoreLaunch {
  float* qkv = nullptr;            // [T, (H + 2 G) D]
  const float* cos_sin = nullptr;  // [T, R/2, 2]
  PagedKv kv;
  const RowSlot* slots = nullptr;  // [num_slots]
  int64_t num_slots = 0;
  int64_t num_heads = 0;    // H; H + 2 G is at most 65,535
  int64_t rotary_dims = 0;  // R
  RopeLayout layout = RopeLayout::kInterleaved;
  bool operator==(const RopeStoreLaunch&) const = default;
};
cudaError_t LaunchRopeStore(const RopeStoreLaunch& launch, cudaStream_t stream);

}  // namespace sentencekv
