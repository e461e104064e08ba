// Small kernels, each right or with one defect that a GPU may forgive: what the
// simulated device must tell apart.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace sentencekv {

struct SampleLaunch {
  float* out = nullptr;
  const float* in = nullptr;
  unsigned* counter = nullptr;
  int count = 0;
  bool is_broken = false;
};

enum class Sample {
  kReverse,        // out[i] = in[count - 1 - i]; without its barrier
  kWarpReverse,    // the same in warps; without __syncwarp
  kTreeSum,        // out[block] = sum; a step without its barrier
  kTwoSums,        // two sums through one buffer; no barrier between them
  kBounds,         // out[i] = in[i]; one element more
  kUnwritten,      // reads shared memory; of which one is never written
  kEarlyReturn,    // a thread beyond count returns before the barrier
  kHalfBarrier,    // half of the block takes another barrier
  kShuffleMask,    // half of the warp gives another mask
  kShuffleBranch,  // half of the warp does not come
  kShuffleSource,  // a lane that takes no part is read
  kBlockCounter,   // counts blocks; without an atomic operation
  kLastBlock,      // the last block sums what all wrote; without the fence
  kAsyncCopy,      // through cp.async; without waiting for it
  kAsyncBarrier,   // the same; without the barrier behind the wait
  kAlignment,      // 16 bytes at a time; from an address that is not a multiple
  kSharedOverrun,  // dynamic shared memory; one element more
  kReadModify,     // two threads read, one of them writes; no barrier between
  kByteNeighbours,  // each thread writes its byte; two threads the same
  kNumSamples,
};

// `blocks` blocks of `threads` threads.
cudaError_t LaunchSample(Sample sample, const SampleLaunch& launch,
                         unsigned blocks, unsigned threads,
                         cudaStream_t stream);

}  // namespace sentencekv
