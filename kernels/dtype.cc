#include "kernels/dtype.h"

#include <iterator>

#include "kernels/check.h"

namespace sentencekv {
namespace {

struct SourceTypeTraits {
  std::string_view name;
  int64_t block_elements;
  int64_t block_bytes;
  WeightFormat packed;
};

// Indexed by SourceType.
constexpr SourceTypeTraits kSourceTypes[] = {
    {"F32", 1, 4, WeightFormat::kF32},
    {"F16", 1, 2, WeightFormat::kF16},
    {"BF16", 1, 2, WeightFormat::kBF16},
    {"Q8_0", 32, 34, WeightFormat::kQ8},
    {"Q4_0", 32, 18, WeightFormat::kQ4},
    {"Q4_1", 32, 20, WeightFormat::kQ4},
    {"Q5_0", 32, 22, WeightFormat::kQ8},
    {"Q5_1", 32, 24, WeightFormat::kQ8},
    {"Q4_K", 256, 144, WeightFormat::kQ4},
    {"Q5_K", 256, 176, WeightFormat::kQ8},
    {"Q6_K", 256, 210, WeightFormat::kQ8},
};

const SourceTypeTraits& TraitsOf(SourceType type) {
  const auto index = static_cast<size_t>(type);
  SKV_CHECK(index < std::size(kSourceTypes));
  return kSourceTypes[index];
}

}  // namespace

std::string_view Name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kF16:
      return "f16";
    case DType::kBF16:
      return "bf16";
  }
  return "unknown";
}

std::string_view Name(SourceType type) { return TraitsOf(type).name; }
int64_t BlockElements(SourceType type) { return TraitsOf(type).block_elements; }
int64_t BlockBytes(SourceType type) { return TraitsOf(type).block_bytes; }
WeightFormat PackedFormat(SourceType type) { return TraitsOf(type).packed; }

std::string_view Name(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32:
      return "f32";
    case WeightFormat::kF16:
      return "f16";
    case WeightFormat::kBF16:
      return "bf16";
    case WeightFormat::kQ4:
      return "q4";
    case WeightFormat::kQ8:
      return "q8";
  }
  return "unknown";
}

}  // namespace sentencekv
