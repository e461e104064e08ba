// Memory of the device, and memory of the host that the device reaches.
#pragma once

#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sentencekv {

// Move-only owner of device memory, aligned to 256 bytes; contents are
// undefined. Nothing may use it any more when it is destroyed.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(DeviceMemory&& other) noexcept { *this = std::move(other); }
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_bytes_, other.size_bytes_);
    return *this;
  }
  ~DeviceMemory();

  // kResourceExhausted with how much was wanted and how much is free.
  static absl::StatusOr<DeviceMemory> Allocate(size_t size_bytes);

  std::byte* data() const { return data_; }
  size_t size_bytes() const { return size_bytes_; }
  // Gives the memory away; whoever takes it calls FreeDevice.
  std::byte* Release() {
    size_bytes_ = 0;
    return std::exchange(data_, nullptr);
  }

 private:
  std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
};

void FreeDevice(void* data);

// Zero-filled host memory that the device copies from and to: page-locked, on
// huge pages where the system has them. Page-locked memory is taken for good,
// so a container's limit must hold all of it.
absl::StatusOr<std::byte*> AllocatePinned(size_t size_bytes);
// `size_bytes` as it was allocated; null is allowed.
void FreePinned(std::byte* data, size_t size_bytes);

// Move-only owner of pinned memory.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  PinnedMemory(PinnedMemory&& other) noexcept { *this = std::move(other); }
  PinnedMemory& operator=(PinnedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_bytes_, other.size_bytes_);
    return *this;
  }
  ~PinnedMemory() { FreePinned(data_, size_bytes_); }

  static absl::StatusOr<PinnedMemory> Allocate(size_t size_bytes);

  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
};

}  // namespace sentencekv
