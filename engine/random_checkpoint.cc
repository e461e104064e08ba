#include "engine/random_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <span>
#include <utility>

#include "engine/llama_tensors.h"
#include "engine/random_stream.h"
#include "kernels/rounding.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

constexpr uint64_t kSeed = 1;
constexpr uint64_t kOffsetSeed = 2;
// Matrices begin at one of so many places of the block, 64 bytes apart.
constexpr int64_t kOffsets = int64_t{1} << 14;
constexpr int64_t kOffsetElements = 32;
constexpr int kBias = 127;  // of the exponent

// Four numbers in BF16: sign and 7 bits of mantissa are random, the exponent
// is given. In absolute value they are 1 to 2 times a power of two.
uint64_t FourNumbers(uint64_t random, uint64_t exponent) {
  constexpr uint64_t kSignAndMantissa = 0x807f'807f'807f'807f;
  constexpr uint64_t kEach = 0x0001'0001'0001'0001;
  return (random & kSignAndMantissa) | (exponent << 7) * kEach;
}

// The exponent of numbers that leave a sum of `width` products as large as what
// they multiply, about.
uint64_t ExponentFor(int64_t width) {
  // The square root of the mean square of 1..2 is 1.5.
  const double size = 1 / (1.5 * std::sqrt(static_cast<double>(width)));
  return static_cast<uint64_t>(kBias + std::lround(std::log2(size)));
}

// [ones][random numbers], in BF16.
std::vector<uint64_t> MakeNumbers(int64_t num_ones, int64_t num_random,
                                  uint64_t exponent) {
  std::vector<uint64_t> numbers;
  numbers.reserve(static_cast<size_t>((num_ones + num_random) / 4));
  const uint64_t ones = FourNumbers(0, kBias);
  numbers.resize(static_cast<size_t>(num_ones / 4), ones);
  for (int64_t i = 0; i < num_random / 4; ++i) {
    numbers.push_back(FourNumbers(RandomBits(kSeed, i), exponent));
  }
  return numbers;
}

}  // namespace

absl::StatusOr<Checkpoint> MakeRandomCheckpoint(
    const std::string& config_path) {
  Checkpoint checkpoint;
  checkpoint.path = std::filesystem::path(config_path).parent_path().string();
  SKV_ASSIGN_OR_RETURN(checkpoint.config_json, ReadConfigJson(config_path));
  SKV_ASSIGN_OR_RETURN(const LlamaConfig config, checkpoint.Config());
  checkpoint.tensors = NeededLlamaTensors(config);
  int64_t num_ones = 0;
  int64_t num_random = 0;
  const auto is_norm = [](const CheckpointTensor& tensor) {
    return tensor.name.ends_with("norm.weight");
  };
  for (const CheckpointTensor& tensor : checkpoint.tensors) {
    int64_t& most = is_norm(tensor) ? num_ones : num_random;
    most = std::max(most, tensor.num_elements());
  }
  num_ones = RoundUp(num_ones, kOffsetElements);
  num_random = RoundUp(num_random, 4) + kOffsets * kOffsetElements;
  checkpoint.random_numbers =
      MakeNumbers(num_ones, num_random, ExponentFor(config.width));
  const auto* numbers =
      reinterpret_cast<const uint16_t*>(checkpoint.random_numbers.data());
  for (size_t i = 0; i < checkpoint.tensors.size(); ++i) {
    CheckpointTensor& tensor = checkpoint.tensors[i];
    const int64_t offset =
        static_cast<int64_t>(RandomBits(kOffsetSeed, i) % kOffsets);
    const int64_t begin =
        is_norm(tensor) ? 0 : num_ones + offset * kOffsetElements;
    tensor.data = std::as_bytes(
        std::span(numbers + begin, static_cast<size_t>(tensor.num_elements())));
  }
  return checkpoint;
}

}  // namespace sentencekv
