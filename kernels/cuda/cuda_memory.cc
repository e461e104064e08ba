#include "kernels/cuda/cuda_memory.h"

#include "kernels/status_macros.h"

namespace sentencekv {

absl::StatusOr<DeviceMemory> DeviceMemory::Allocate(DeviceArena& arena,
                                                    size_t size_bytes,
                                                    MemoryUse use) {
  DeviceMemory memory;
  SKV_ASSIGN_OR_RETURN(memory.data_, arena.Allocate(size_bytes, use));
  memory.arena_ = &arena;
  memory.size_bytes_ = size_bytes;
  return memory;
}

DeviceMemory::~DeviceMemory() {
  if (data_ != nullptr) arena_->Release(data_, DeviceArena::Users::kCompute);
}

absl::StatusOr<PinnedMemory> PinnedMemory::Allocate(PinnedPool& pool,
                                                    size_t size_bytes) {
  PinnedMemory memory;
  SKV_ASSIGN_OR_RETURN(memory.data_, pool.Allocate(size_bytes));
  memory.pool_ = &pool;
  memory.size_bytes_ = size_bytes;
  return memory;
}

PinnedMemory::~PinnedMemory() {
  if (data_ != nullptr) pool_->Free(data_, size_bytes_);
}

}  // namespace sentencekv
