// Sharing of the rotary embedding among threads: tokens are independent.
#pragma once

#include <cstdint>

#include "kernels/cpu/worker_pool.h"
#include "kernels/op_params.h"

namespace sentencekv {

// One token of RopeStoreKv.
struct RopeToken {
  float* row = nullptr;            // [(H + 2 G) D]
  const float* cos_sin = nullptr;  // [R/2, 2]
  std::byte* page = nullptr;       // the token's page: [G][K then V]
  int64_t slot = 0;                // the token's place in it
  // The same for all tokens:
  int64_t num_heads = 0;     // H
  int64_t num_kv_heads = 0;  // G
  int64_t head_dim = 0;      // D
  int64_t head_bytes = 0;    // from one KV head's K to the next one's
  int64_t rotary_dims = 0;   // R
  RopeLayout layout = RopeLayout::kInterleaved;
  DType dtype = DType::kF16;
};

// Greatest head size that the rope and attention kernels take.
inline constexpr int64_t kMaxHeadDim = 256;

// What a level provides: everything for one token.
using RopeTokenKernel = void (*)(const RopeToken& token);

// REQUIRES of both: checked arguments, at least one token.
void RunRopeTable(WorkerPool& pool, const RopeTableParams& params);
void RunRopeStoreKv(WorkerPool& pool, const RopeStoreKvParams& params,
                    RopeTokenKernel kernel);

}  // namespace sentencekv
