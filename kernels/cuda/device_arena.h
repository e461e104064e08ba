// All device memory of a backend: one reservation, made at the start, out of
// which blocks are handed. The driver is not asked again: its own allocation
// and freeing wait for the whole device.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/cuda_streams.h"
#include "kernels/cuda/free_blocks.h"
#include "kernels/memory_budget.h"

namespace sentencekv {

// Tells whoever checks accesses to the arena, as compute-sanitizer or a
// simulated device do, that [data, data + size_bytes) is a block of its own
// from this point of the stream on, or that it is none any more.
using MarkBlock = cudaError_t (*)(void* data, size_t size_bytes, bool is_taken,
                                  cudaStream_t stream);

struct DeviceArenaOptions {
  size_t size_bytes = 0;  // 0: what is free, less what the driver will need
  MarkBlock mark_block = nullptr;  // null: nobody is told
};

// Handing out and giving back submit work and wait for nothing. A block's new
// owner begins in the compute stream; what has to be over by then is:
//  1. what its last owner did in the compute stream: the order of the stream
//     sees to that;
//  2. what its last owner did in streams of copies: the block is free again
//     when events behind that have passed. Only if nothing else is large enough
//     is it handed out before, and then the compute stream waits for the
//     events, and so does whatever the new owner does.
// One thread.
class DeviceArena {
 public:
  // The streams that the owner of a block uses it in.
  enum class Users : uint8_t { kCompute, kAllStreams };

  // kResourceExhausted with how much was wanted and how much is free.
  static absl::StatusOr<std::unique_ptr<DeviceArena>> Create(
      CudaStreams& streams, const DeviceArenaOptions& options);
  // REQUIRES: everything was released, and all streams are done.
  ~DeviceArena();
  DeviceArena(const DeviceArena&) = delete;
  DeviceArena& operator=(const DeviceArena&) = delete;

  // Memory aligned to 256 bytes, to be used in the compute stream; in another
  // one after an event that the compute stream records from now on. Contents
  // are undefined. kResourceExhausted with what is free, in how large blocks,
  // and what holds the rest.
  absl::StatusOr<std::byte*> Allocate(size_t size_bytes, MemoryUse use);
  // What was submitted until now may use the block; nothing else may.
  void Release(std::byte* data, Users users);

  MemoryBudget budget() const;

 private:
  struct Block {
    size_t offset;
    size_t size_bytes;
  };
  struct TakenBlock {
    Block block;
    MemoryUse use;
  };
  // Blocks that copies submitted before the events may use.
  struct Releasing {
    std::vector<DeviceEvent> copies;
    std::vector<Block> blocks;
  };

  DeviceArena(CudaStreams& streams, std::byte* memory, size_t size_bytes,
              MarkBlock mark_block)
      : streams_(streams),
        memory_(memory),
        size_bytes_(size_bytes),
        mark_block_(mark_block),
        free_(size_bytes) {}

  // Records the events behind which released blocks are free.
  absl::Status RecordReleases();
  // Frees the blocks whose events have passed.
  absl::Status ReclaimPassed();
  absl::StatusOr<bool> HavePassed(const std::vector<DeviceEvent>& events);
  // Frees the blocks that were released first, after a wait.
  absl::Status WaitAndReclaim();
  void FreeFirstReleasing();
  void Free(const Block& block);
  absl::Status Mark(const Block& block, bool is_taken);
  absl::Status Exhausted(size_t size_bytes) const;

  CudaStreams& streams_;
  std::byte* const memory_;
  const size_t size_bytes_;
  const MarkBlock mark_block_;
  FreeBlocks free_;
  std::unordered_map<size_t, TakenBlock> taken_;  // by offset
  std::vector<Block> released_;                   // no events are recorded yet
  std::deque<Releasing> releasing_;               // oldest first
  int64_t num_waits_ = 0;
};

}  // namespace sentencekv
