// Copies what a choice lacks from the page pool, in pinned host memory, to the
// runs of its slots: the K and V of chosen tokens, and nothing else.
//
// Reads what LaunchChoose wrote, so it comes after that; attention comes after
// it. On a stream of its own it leaves the processors to others: a few blocks
// are enough to keep the bus busy.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/choose_kernels.h"
#include "kernels/cuda/paged_kv.h"

namespace sentencekv {

inline constexpr int64_t kMostGatheredLists = 4096;

struct GatherRunsLaunch {
  const MissingRun* missing = nullptr;   // [num_lists][most_missing]
  const int32_t* num_missing = nullptr;  // [num_lists]
  int64_t num_lists = 0;                 // at most kMostGatheredLists
  int64_t most_missing = 0;
  PagedKv pool;               // one layer's pages, aligned to 16 bytes
  std::byte* runs = nullptr;  // [runs][K then V][P][D], likewise
  int64_t num_blocks = 4;     // each keeps 32 KiB on the way
  bool operator==(const GatherRunsLaunch&) const = default;
};

// cudaErrorInvalidValue where a token's K is no multiple of 16 bytes.
cudaError_t LaunchGatherRuns(const GatherRunsLaunch& launch,
                             cudaStream_t stream);

}  // namespace sentencekv
