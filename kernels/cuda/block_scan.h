// Running sums over the threads of a block. Device code, for .cu files.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"

namespace sentencekv {

// Sum over the lanes up to this one. All 32 lanes of the warp call.
__device__ __forceinline__ uint64_t WarpRunningSum(uint64_t value) {
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const uint64_t before = __shfl_up_sync(kFullMask, value, distance);
    if (LaneId() >= distance) value += before;
  }
  return value;
}

// Sum over the threads before this one; *total over all of them. All threads of
// the block call.
__device__ __forceinline__ uint64_t BlockSumBefore(uint64_t value,
                                                   uint64_t* total) {
  CU_SHARED(uint64_t, warp_sums, kWarpSize);
  const uint64_t in_warp = WarpRunningSum(value);
  __syncthreads();  // the readers of an earlier call are done
  if (LaneId() == kWarpSize - 1) warp_sums[WarpId()] = in_warp;
  __syncthreads();
  const uint64_t of_warps =
      WarpRunningSum(LaneId() < NumWarps() ? warp_sums[LaneId()] : 0);
  *total = __shfl_sync(kFullMask, of_warps, NumWarps() - 1);
  const uint64_t before =
      __shfl_sync(kFullMask, of_warps, WarpId() == 0 ? 0 : WarpId() - 1);
  return (WarpId() == 0 ? 0 : before) + in_warp - value;
}

}  // namespace sentencekv
