// For each part of memory that a launch touches: who read and who wrote it
// last. Global memory has two bytes to a part, single bytes on pages where some
// access is odd.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "tests/support/cuda_sim/stamp.h"

namespace cuda_sim {

struct Cell {
  Stamp writer;
  Stamp reader;

  bool operator==(const Cell&) const = default;
};

// Addresses [begin, end).
struct Interval {
  uintptr_t begin = 0;
  uintptr_t end = 0;
};

class ShadowMemory {
 public:
  // Forgets everything.
  void Clear();

  // The cells of [address, address + size), which do not cross a page;
  // `count` of them.
  Cell* Cells(uintptr_t address, size_t size, size_t* count);

  // What was read and written since Clear, in rising order, merged.
  std::vector<Interval> ReadIntervals() const {
    return Intervals(&Cell::reader);
  }
  std::vector<Interval> WrittenIntervals() const {
    return Intervals(&Cell::writer);
  }

  static constexpr uintptr_t kPageBytes = 4096;

 private:
  struct Page {
    uintptr_t number = 0;
    uint64_t generation = 0;  // of the launch that used it last
    bool is_fine = false;     // one byte to a cell, else two
    std::array<Cell, kPageBytes> cells;
  };

  Page* FindPage(uintptr_t number);
  static void MakeFine(Page* page);
  std::vector<Interval> Intervals(Stamp Cell::*access) const;

  uint64_t generation_ = 1;
  std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages_;
  std::vector<Page*> touched_;
  std::array<Page*, 64> recent_ = {};  // by page number
};

}  // namespace cuda_sim
