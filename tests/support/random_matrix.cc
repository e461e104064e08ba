#include "tests/support/random_matrix.h"

#include <cstring>

#include "kernels/block_formats.h"
#include "kernels/half.h"

namespace sentencekv {
namespace {

// Where the f16 scales lie in a block; minus one for none.
struct ScaleOffsets {
  int64_t scale;
  int64_t minimum;
};

ScaleOffsets ScalesOf(SourceType type) {
  switch (type) {
    case SourceType::kQ4_1:
    case SourceType::kQ5_1:
    case SourceType::kQ4_K:
    case SourceType::kQ5_K:
      return {0, 2};
    case SourceType::kQ6_K:
      return {208, -1};
    default:
      return {0, -1};
  }
}

}  // namespace

RandomMatrix::RandomMatrix(SourceType type, int64_t rows, int64_t cols,
                           uint32_t seed)
    : type_(type), rows_(rows), cols_(cols) {
  const int64_t num_blocks = rows * (cols / BlockElements(type));
  const int64_t block_bytes = BlockBytes(type);
  bytes_.resize(static_cast<size_t>(num_blocks * block_bytes));
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> scale(0.01f, 0.1f);
  const auto store = [&](int64_t offset, auto value) {
    std::memcpy(bytes_.data() + offset, &value, sizeof(value));
  };
  if (BlockElements(type) == 1) {
    for (int64_t i = 0; i < num_blocks; ++i) {
      const float value = normal(random);
      if (type == SourceType::kF32) store(4 * i, value);
      if (type == SourceType::kF16) store(2 * i, F32ToF16(value));
      if (type == SourceType::kBF16) store(2 * i, F32ToBf16(value));
    }
    return;
  }
  for (std::byte& byte : bytes_) byte = static_cast<std::byte>(random());
  const ScaleOffsets offsets = ScalesOf(type);
  for (int64_t i = 0; i < num_blocks; ++i) {
    const int64_t block = i * block_bytes;
    store(block + offsets.scale, F32ToF16(scale(random)));
    if (offsets.minimum >= 0) {
      store(block + offsets.minimum, F32ToF16(-8 * scale(random)));
    }
  }
}

std::vector<float> RandomMatrix::Row(int64_t row) const {
  std::vector<float> values(static_cast<size_t>(cols_));
  const int64_t row_bytes = cols_ / BlockElements(type_) * BlockBytes(type_);
  DequantizeRow(type_, bytes_.data() + row * row_bytes, cols_, values.data());
  return values;
}

std::vector<float> RandomFloats(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

}  // namespace sentencekv
