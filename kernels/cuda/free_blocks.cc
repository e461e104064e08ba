#include "kernels/cuda/free_blocks.h"

#include <iterator>

#include "kernels/check.h"

namespace sentencekv {

FreeBlocks::FreeBlocks(size_t size_bytes) : size_bytes_(size_bytes) {
  if (size_bytes > 0) Add(0, size_bytes);
}

std::optional<size_t> FreeBlocks::Take(size_t size_bytes) {
  SKV_CHECK(size_bytes > 0);
  const auto found = by_size_.lower_bound({size_bytes, 0});
  if (found == by_size_.end()) return std::nullopt;
  const auto [free_bytes, offset] = *found;
  Remove(offset, free_bytes);
  if (free_bytes > size_bytes)
    Add(offset + size_bytes, free_bytes - size_bytes);
  return offset;
}

void FreeBlocks::Give(size_t offset, size_t size_bytes) {
  SKV_CHECK(size_bytes > 0 && size_bytes <= size_bytes_ &&
            offset <= size_bytes_ - size_bytes);
  const auto above = by_offset_.lower_bound(offset);
  if (above != by_offset_.end()) {
    SKV_CHECK(offset + size_bytes <= above->first);
    if (offset + size_bytes == above->first) {
      const size_t joined = above->second;
      Remove(offset + size_bytes, joined);
      size_bytes += joined;
    }
  }
  const auto next = by_offset_.lower_bound(offset);
  if (next != by_offset_.begin()) {
    const auto [below, below_bytes] = *std::prev(next);
    SKV_CHECK(below + below_bytes <= offset);
    if (below + below_bytes == offset) {
      Remove(below, below_bytes);
      offset = below;
      size_bytes += below_bytes;
    }
  }
  Add(offset, size_bytes);
}

void FreeBlocks::Add(size_t offset, size_t size_bytes) {
  by_offset_.emplace(offset, size_bytes);
  by_size_.emplace(size_bytes, offset);
  free_bytes_ += size_bytes;
}

void FreeBlocks::Remove(size_t offset, size_t size_bytes) {
  by_offset_.erase(offset);
  by_size_.erase({size_bytes, offset});
  free_bytes_ -= size_bytes;
}

}  // namespace sentencekv
