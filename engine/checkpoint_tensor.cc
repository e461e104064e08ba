#include "engine/checkpoint_tensor.h"

#include <limits>
#include <optional>

#include "absl/status/status.h"
#include "engine/checked_math.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "kernels/quoted.h"

namespace sentencekv {

std::string ShapeText(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

absl::StatusOr<uint64_t> TensorBytes(const CheckpointTensor& tensor) {
  const auto block_elements = static_cast<uint64_t>(BlockElements(tensor.type));
  const uint64_t row =
      tensor.shape.empty() ? 1 : static_cast<uint64_t>(tensor.shape.back());
  if (row % block_elements != 0) {
    return absl::DataLossError(fmt::format(
        "tensor {} has rows of {} elements, not whole blocks of {} ({})",
        Quoted(tensor.name), row, block_elements, Name(tensor.type)));
  }
  // The number of elements must fit, not only that of bytes: code that reads
  // the shape multiplies it out again.
  std::optional<uint64_t> elements = 1;
  for (const int64_t size : tensor.shape) {
    elements = CheckedMultiply(*elements, static_cast<uint64_t>(size));
    if (!elements.has_value()) break;
  }
  std::optional<uint64_t> bytes;
  if (elements.has_value()) {
    bytes = CheckedMultiply(*elements / block_elements,
                            static_cast<uint64_t>(BlockBytes(tensor.type)));
  }
  constexpr uint64_t kLimit = std::numeric_limits<int64_t>::max();
  if (!bytes.has_value() || *bytes > kLimit || *elements > kLimit) {
    return absl::DataLossError(
        fmt::format("tensor {} is larger than any file: {}",
                    Quoted(tensor.name), ShapeText(tensor.shape)));
  }
  return *bytes;
}

}  // namespace sentencekv
