// How much attention the keys of a sequence get from some of its queries.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/paged_kv.h"

namespace sentencekv {

// AttentionMassParams in device memory.
struct AttentionMassLaunch {
  const float* queries = nullptr;  // [num_queries, H, D], turned
  int64_t num_queries = 0;
  int64_t first_position = 0;
  PagedKv kv;
  const int32_t* pages = nullptr;  // of the sequence
  int64_t num_heads = 0;           // H
  float scale = 0;
  float* out = nullptr;        // [H, first_position + num_queries]
  float* workspace = nullptr;  // AttentionMassWorkspaceFloats
};

// Keys that one block of threads goes through.
inline constexpr int64_t kMassTileTokens = 64;

// Maximum and sum of each query: [H, queries], and [H, tiles, queries].
constexpr int64_t AttentionMassWorkspaceFloats(int64_t num_queries,
                                               int64_t num_heads,
                                               int64_t num_keys) {
  const int64_t tiles = (num_keys + kMassTileTokens - 1) / kMassTileTokens;
  return 2 * num_queries * num_heads * (tiles + 1);
}

// cudaErrorInvalidValue where D is no multiple of 8 in 8..256.
cudaError_t LaunchAttentionMass(const AttentionMassLaunch& launch,
                                cudaStream_t stream);

}  // namespace sentencekv
