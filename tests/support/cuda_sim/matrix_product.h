// A product of matrices as cuBLASLt sees it, column by column: D [n, t] =
// alpha A^T B + beta D + bias, with A [k, n] and B [k, t] of 16-bit numbers, D
// and all sums f32.
#pragma once

#include <library_types.h>

#include <cstddef>
#include <cstdint>

#include "tests/support/cuda_sim/operation_queue.h"

namespace cuda_sim {

struct Layout {
  cudaDataType_t type;
  uint64_t rows;
  uint64_t cols;
  int64_t stride;  // elements from column to column
};
struct Product {
  const std::byte* a;
  const std::byte* b;
  float* d;
  Layout a_layout, b_layout, d_layout;
  float alpha, beta;
  const float* bias;
  std::byte* scratch;
  size_t scratch_bytes;
};

// An element of D depends on its column of A and of B alone.
OperationAccess RunProduct(const Product& p);

}  // namespace cuda_sim
