// Weight matrices as a backend keeps them, and the sources they are packed
// from.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/buffer.h"
#include "kernels/dtype.h"

namespace sentencekv {

// Rows of a matrix as a checkpoint stores them: [rows, cols] row-major, each
// row a whole number of blocks. Borrowed (usually from a memory-mapped file).
struct MatrixSource {
  const std::byte* data = nullptr;
  SourceType type = SourceType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
};

// A packed matrix [rows, cols]; owns its memory. The layout of `data` is the
// backend's own; see kernels/cpu/weight_layout.h for the CPU's.
struct WeightMatrix {
  WeightFormat format = WeightFormat::kF32;
  int64_t rows = 0;  // N
  int64_t cols = 0;  // K
  Buffer data;
};

}  // namespace sentencekv
