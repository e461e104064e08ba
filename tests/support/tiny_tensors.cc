#include "tests/support/tiny_tensors.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "kernels/half.h"

namespace sentencekv {
namespace {

template <typename T>
void Append(std::string* bytes, T value) {
  bytes->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// Appends a block of 32 values as q = round((x - minimum) / step), q in
// 0..levels, in the layout of Q4_0, Q4_1, Q5_0 or Q5_1: scale, minimum (of the
// "_1" types), bit 4 of every q (of the "Q5" types), low nibbles.
void AppendNibbles(std::string* bytes, const float* x, int levels,
                   bool has_minimum) {
  const auto [low, high] = std::minmax_element(x, x + 32);
  float minimum = *low, step = (*high - *low) / static_cast<float>(levels);
  if (!has_minimum) {
    // Symmetric: zero lies at the middle q.
    const float largest = std::max(std::abs(*low), std::abs(*high));
    const int middle = (levels + 1) / 2;
    step = largest / static_cast<float>(middle - 1);
    minimum = -step * static_cast<float>(middle);
  }
  if (step == 0) step = 1;
  uint8_t q[32];
  uint32_t high_bits = 0;
  for (int i = 0; i < 32; ++i) {
    const long value = std::lround((x[i] - minimum) / step);
    q[i] =
        static_cast<uint8_t>(std::clamp(value, 0L, static_cast<long>(levels)));
    high_bits |= static_cast<uint32_t>(q[i] >> 4) << i;
  }
  Append<uint16_t>(bytes, F32ToF16(step));
  if (has_minimum) Append<uint16_t>(bytes, F32ToF16(minimum));
  if (levels > 15) Append<uint32_t>(bytes, high_bits);
  for (int i = 0; i < 16; ++i) {
    Append<uint8_t>(
        bytes, static_cast<uint8_t>((q[i] & 15) | ((q[i + 16] & 15) << 4)));
  }
}

void AppendQ8(std::string* bytes, const float* x) {
  float largest = 0;
  for (int i = 0; i < 32; ++i) largest = std::max(largest, std::abs(x[i]));
  const float step = largest == 0 ? 1 : largest / 127;
  Append<uint16_t>(bytes, F32ToF16(step));
  for (int i = 0; i < 32; ++i) {
    Append<int8_t>(bytes, static_cast<int8_t>(std::lround(x[i] / step)));
  }
}

void AppendRandomBytes(std::string* bytes, int count, TinyRandom* random) {
  for (int i = 0; i < count; ++i) {
    Append<uint8_t>(bytes, static_cast<uint8_t>(random->Next() >> 56));
  }
}

// A block of 256 in Q4_K or Q5_K (d, dmin, 12 bytes of 6-bit scales, q) or
// Q6_K (q, 16 signed scales, d). Scales are at most 63 (127), q at most 15 (31,
// 32), so that d below keeps values about within `scale`.
void AppendKBlock(std::string* bytes, SourceType type, float scale,
                  TinyRandom* random) {
  if (type == SourceType::kQ6_K) {
    AppendRandomBytes(bytes, 192, random);
    for (int i = 0; i < 16; ++i) {
      Append<int8_t>(bytes, static_cast<int8_t>(40 + random->Next() % 80));
    }
    Append<uint16_t>(bytes, F32ToF16(scale / (32 * 100)));
    return;
  }
  const float levels = type == SourceType::kQ4_K ? 15 : 31;
  Append<uint16_t>(bytes, F32ToF16(2 * scale / (40 * levels)));
  Append<uint16_t>(bytes, F32ToF16(scale / 40));
  AppendRandomBytes(bytes, 12, random);
  AppendRandomBytes(bytes, type == SourceType::kQ4_K ? 128 : 160, random);
}

}  // namespace

uint64_t TinyRandom::Next() {
  uint64_t z = (state_ += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

float TinyRandom::NextSigned() {
  return static_cast<float>(Next() >> 40) * 0x1p-23f - 1.0f;
}

std::string QuantizeValues(SourceType type, const std::vector<float>& values) {
  std::string bytes;
  const auto blocks = static_cast<int64_t>(values.size()) / BlockElements(type);
  for (int64_t block = 0; block < blocks; ++block) {
    const float* x = values.data() + block * BlockElements(type);
    switch (type) {
      case SourceType::kF32:
        Append(&bytes, *x);
        break;
      case SourceType::kF16:
        Append<uint16_t>(&bytes, F32ToF16(*x));
        break;
      case SourceType::kBF16:
        Append<uint16_t>(&bytes, F32ToBf16(*x));
        break;
      case SourceType::kQ8_0:
        AppendQ8(&bytes, x);
        break;
      case SourceType::kQ4_0:
        AppendNibbles(&bytes, x, 15, false);
        break;
      case SourceType::kQ4_1:
        AppendNibbles(&bytes, x, 15, true);
        break;
      case SourceType::kQ5_0:
        AppendNibbles(&bytes, x, 31, false);
        break;
      case SourceType::kQ5_1:
        AppendNibbles(&bytes, x, 31, true);
        break;
      default:
        std::abort();
    }
  }
  return bytes;
}

std::string RandomTensorData(SourceType type, int64_t rows, int64_t cols,
                             float scale, TinyRandom* random) {
  if (cols % BlockElements(type) != 0) std::abort();
  if (BlockElements(type) == 256) {
    std::string bytes;
    for (int64_t block = 0; block < rows * cols / 256; ++block) {
      AppendKBlock(&bytes, type, scale, random);
    }
    return bytes;
  }
  std::vector<float> values(static_cast<size_t>(rows * cols));
  for (float& value : values) value = scale * random->NextSigned();
  return QuantizeValues(type, values);
}

}  // namespace sentencekv
