#include "tests/support/cuda_sim/shared_memory.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace cuda_sim {
namespace {

// A GPU aligns to less than this; code that needs more says so.
constexpr size_t kAlignment = 16;
// Between two variables: an index that runs over hits nothing of the other.
constexpr size_t kGapBytes = 64;

size_t RoundUp(size_t size) {
  return (size + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

SharedMemory::SharedMemory()
    : bytes_(static_cast<std::byte*>(
          ::operator new(kMaxBytes, std::align_val_t(4096)))),
      states_(kMaxBytes, State::kNoMemory),
      cells_(kMaxBytes) {}

void SharedMemory::BeginBlock(size_t dynamic_bytes) {
  std::fill_n(states_.begin(), used_, State::kNoMemory);
  std::fill_n(cells_.begin(), is_fine_ ? used_ : (used_ + 1) / 2, Cell());
  is_fine_ = false;
  variables_.clear();
  used_ = 0;
  Give(0, dynamic_bytes);
}

Cell* SharedMemory::Cells(uintptr_t address, size_t size, size_t* count) {
  if (!is_fine_ && (address % 2 != 0 || size % 2 != 0)) {
    for (size_t i = used_; i-- > 0;) cells_[i] = cells_[i / 2];
    is_fine_ = true;
  }
  const size_t offset = address - begin();
  *count = is_fine_ ? size : size / 2;
  return &cells_[is_fine_ ? offset : offset / 2];
}

void SharedMemory::Give(size_t offset, size_t size_bytes) {
  std::memset(bytes_ + offset, 0xff, size_bytes);
  std::fill_n(states_.begin() + offset, size_bytes, State::kUnwritten);
  used_ = offset + size_bytes;
}

void* SharedMemory::Static(size_t size_bytes, const char* file, int line) {
  for (const Variable& variable : variables_) {
    if (variable.line == line && variable.file == file &&
        variable.size_bytes == size_bytes) {
      return variable.memory;
    }
  }
  // The gaps are ours: they do not count against the limit of a kernel unless
  // it is nearly full.
  const size_t offset = RoundUp(used_ + (used_ == 0 ? 0 : kGapBytes));
  if (offset + size_bytes > kMaxBytes) return nullptr;
  Give(offset, size_bytes);
  variables_.push_back({file, line, size_bytes, bytes_ + offset});
  return bytes_ + offset;
}

}  // namespace cuda_sim
