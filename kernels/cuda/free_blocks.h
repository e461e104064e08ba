// Which parts of a range of memory are free. Knows offsets only.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <utility>

namespace sentencekv {

// Best fit: a block comes from the smallest free one that has room, so that
// large ones stay for those who need them. Free neighbours are always joined.
// Both take time that grows with the logarithm of the number of free blocks.
class FreeBlocks {
 public:
  // All of [0, size_bytes) is free.
  explicit FreeBlocks(size_t size_bytes);

  // The offset of a block that is no longer free; nothing where none is large
  // enough. REQUIRES: size_bytes > 0.
  std::optional<size_t> Take(size_t size_bytes);
  // REQUIRES: [offset, offset + size_bytes) was taken and not given back.
  void Give(size_t offset, size_t size_bytes);

  size_t free_bytes() const { return free_bytes_; }
  size_t largest_bytes() const {
    return by_size_.empty() ? 0 : by_size_.rbegin()->first;
  }

 private:
  void Add(size_t offset, size_t size_bytes);
  void Remove(size_t offset, size_t size_bytes);

  const size_t size_bytes_;
  size_t free_bytes_ = 0;
  std::map<size_t, size_t> by_offset_;           // offset to size
  std::set<std::pair<size_t, size_t>> by_size_;  // size, offset
};

}  // namespace sentencekv
