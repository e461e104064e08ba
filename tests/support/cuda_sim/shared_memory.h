// The shared memory of the block that runs: what lies where, what was written,
// who touched it last.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/support/cuda_sim/shadow_memory.h"

namespace cuda_sim {

class SharedMemory {
 public:
  // What the largest GPU that we build for gives a block.
  static constexpr size_t kMaxBytes = 227 * 1024;

  enum class State : uint8_t { kNoMemory, kUnwritten, kWritten, kInFlight };

  SharedMemory();

  // Nothing is written, and all of it is NaN. REQUIRES: it fits.
  void BeginBlock(size_t dynamic_bytes);

  std::byte* dynamic() { return bytes_; }
  // The variable of this place in the source; nullptr when it does not fit.
  void* Static(size_t size_bytes, const char* file, int line);

  bool Contains(uintptr_t address) const {
    return address - begin() < kMaxBytes;
  }
  uintptr_t begin() const { return reinterpret_cast<uintptr_t>(bytes_); }

  // Of a byte inside.
  State& state(uintptr_t address) { return states_[address - begin()]; }
  // The `count` cells of [address, address + size), which lie inside.
  Cell* Cells(uintptr_t address, size_t size, size_t* count);

 private:
  struct Variable {
    const char* file;
    int line;
    size_t size_bytes;
    void* memory;
  };

  void Give(size_t offset, size_t size_bytes);

  std::byte* bytes_;  // [kMaxBytes]
  std::vector<State> states_;
  // Two bytes to a cell, one once some access of the block is odd.
  std::vector<Cell> cells_;
  bool is_fine_ = false;
  std::vector<Variable> variables_;
  size_t used_ = 0;
};

}  // namespace cuda_sim
