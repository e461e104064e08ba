// Weight matrices as the CUDA backend keeps them, whatever the checkpoint's
// format: [rows][stride] bf16, row-major. The stride is a multiple of 8, so
// that every row begins at a multiple of 16 bytes; what lies between the
// columns and the stride is 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "kernels/cuda/staging_ring.h"
#include "kernels/weight_matrix.h"

namespace sentencekv {

constexpr int64_t Bf16Stride(int64_t cols) { return (cols + 7) / 8 * 8; }

constexpr size_t Bf16MatrixBytes(int64_t rows, int64_t cols) {
  return static_cast<size_t>(rows * Bf16Stride(cols)) * sizeof(uint16_t);
}

// Stacks the rows of `parts`, rounded to bf16 (to nearest even), at `device`,
// in the compute stream; has read them when it returns. REQUIRES: checked
// parts.
absl::Status UploadBf16Matrix(StagingRing& ring,
                              std::span<const MatrixSource> parts,
                              std::byte* device);

}  // namespace sentencekv
