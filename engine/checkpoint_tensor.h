// A tensor of a checkpoint file, whatever the format of the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/dtype.h"

namespace sentencekv {

// Borrows from the mapped file it was read from.
struct CheckpointTensor {
  std::string name;
  SourceType type = SourceType::kF32;
  // Outermost first, at most 4; the last one is contiguous in memory and a
  // whole number of blocks. All at least 1; empty for a scalar.
  std::vector<int64_t> shape;
  // Exactly as many bytes as type and shape say; any alignment.
  std::span<const std::byte> data;

  int64_t num_elements() const {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    return count;
  }
};

// "[576, 1536]".
std::string ShapeText(std::span<const int64_t> shape);

// Bytes that type and shape take. kDataLoss when the product overflows or a
// row is not a whole number of blocks.
absl::StatusOr<uint64_t> TensorBytes(const CheckpointTensor& tensor);

}  // namespace sentencekv
