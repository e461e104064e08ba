// Matrices of every checkpoint type, made from a seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/dtype.h"
#include "kernels/weight_matrix.h"

namespace sentencekv {

// Owns the bytes of a checkpoint matrix [rows, cols]. Values are of the order
// of 1; any bits occur in the integers of block formats.
class RandomMatrix {
 public:
  // REQUIRES: cols is a multiple of BlockElements(type).
  RandomMatrix(SourceType type, int64_t rows, int64_t cols, uint32_t seed);

  MatrixSource source() const { return {bytes_.data(), type_, rows_, cols_}; }
  // The values of one row.
  std::vector<float> Row(int64_t row) const;

 private:
  SourceType type_;
  int64_t rows_;
  int64_t cols_;
  std::vector<std::byte> bytes_;
};

// Values from a normal distribution.
std::vector<float> RandomFloats(int64_t count, uint32_t seed);

}  // namespace sentencekv
