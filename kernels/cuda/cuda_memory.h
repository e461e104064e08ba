// Owners of memory of the device, and of memory of the host that it reaches.
#pragma once

#include <cstddef>
#include <utility>

#include "absl/status/statusor.h"
#include "kernels/cuda/device_arena.h"
#include "kernels/cuda/pinned_pool.h"

namespace sentencekv {

// Move-only owner of device memory that is used in the compute stream only,
// aligned to 256 bytes; contents are undefined. What was submitted may still
// use it when it is destroyed. Must not outlive the arena.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(DeviceMemory&& other) noexcept { *this = std::move(other); }
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(arena_, other.arena_);
    std::swap(data_, other.data_);
    std::swap(size_bytes_, other.size_bytes_);
    return *this;
  }
  ~DeviceMemory();

  static absl::StatusOr<DeviceMemory> Allocate(DeviceArena& arena,
                                               size_t size_bytes,
                                               MemoryUse use);

  std::byte* data() const { return data_; }
  size_t size_bytes() const { return size_bytes_; }

 private:
  DeviceArena* arena_ = nullptr;
  std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
};

// Move-only owner of pinned memory. Nothing may use it any more when it is
// destroyed. Must not outlive the pool.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  PinnedMemory(PinnedMemory&& other) noexcept { *this = std::move(other); }
  PinnedMemory& operator=(PinnedMemory&& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(data_, other.data_);
    std::swap(size_bytes_, other.size_bytes_);
    return *this;
  }
  ~PinnedMemory();

  static absl::StatusOr<PinnedMemory> Allocate(PinnedPool& pool,
                                               size_t size_bytes);

  std::byte* data() const { return data_; }

 private:
  PinnedPool* pool_ = nullptr;
  std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
};

}  // namespace sentencekv
