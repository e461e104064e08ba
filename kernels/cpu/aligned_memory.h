// Memory for buffers and scratch, aligned to cache lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace sentencekv {

inline constexpr size_t kCacheLineBytes = 64;

// Zero-filled, aligned to kCacheLineBytes; blocks of 2 MiB and more lie on huge
// pages where the system has them. Null when there is none.
std::byte* AllocateAligned(size_t size_bytes);
// Has the system put memory behind the whole pages of this range, so that the
// first access does not wait for it: 5 ms were seen for a huge page of a
// virtual machine. Contents stay. Advice only.
void PopulateMemory(std::byte* data, size_t size_bytes);
// `size_bytes` as it was allocated; null is allowed.
void FreeAligned(std::byte* data, size_t size_bytes);

// Places middling blocks side by side on huge pages, which speeds up reading
// the weight matrices of a small model by a tenth and more. Blocks are taken
// one after the other and a chunk of memory is given back once all of its
// blocks are. One thread at a time.
class HugePageArena {
 public:
  static constexpr size_t kMinBlockBytes = size_t{16} << 10;
  static constexpr size_t kMaxBlockBytes = size_t{2} << 20;

  HugePageArena() = default;
  HugePageArena(const HugePageArena&) = delete;
  HugePageArena& operator=(const HugePageArena&) = delete;
  ~HugePageArena();

  // As AllocateAligned; sizes kMinBlockBytes..kMaxBlockBytes - 1.
  std::byte* Allocate(size_t size_bytes);
  // A block of this arena.
  void Free(std::byte* data);

 private:
  struct Chunk {
    std::byte* data;
    size_t used_bytes;
    int64_t num_blocks;
  };

  std::vector<Chunk> chunks_;  // blocks are taken from the last one
};

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
