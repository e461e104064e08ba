// Memory for buffers and scratch, aligned to cache lines.
#pragma once

#include <cstddef>
#include <utility>

namespace sentencekv {

inline constexpr size_t kCacheLineBytes = 64;

// Zero-filled, aligned to kCacheLineBytes; blocks of 2 MiB and more lie on huge
// pages where the system has them. Null when there is none.
std::byte* AllocateAligned(size_t size_bytes);
// `size_bytes` as it was allocated; null is allowed.
void FreeAligned(std::byte* data, size_t size_bytes);

// Memory that only grows; contents are not kept when it does. One thread.
class GrowingMemory {
 public:
  GrowingMemory() = default;
  GrowingMemory(GrowingMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_bytes_(std::exchange(other.size_bytes_, 0)) {}
  GrowingMemory& operator=(GrowingMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_bytes_, other.size_bytes_);
    return *this;
  }
  ~GrowingMemory() { FreeAligned(data_, size_bytes_); }

  // Null when there is none.
  std::byte* AtLeast(size_t size_bytes) {
    if (size_bytes > size_bytes_) {
      FreeAligned(data_, size_bytes_);
      data_ = AllocateAligned(size_bytes);
      size_bytes_ = data_ == nullptr ? 0 : size_bytes;
    }
    return data_;
  }

 private:
  std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
};

}  // namespace sentencekv
