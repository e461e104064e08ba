#include "engine/checkpoint_tensor.h"

#include "fmt/format.h"
#include "fmt/ranges.h"

namespace sentencekv {

std::string ShapeText(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace sentencekv
