// Random tensors of any storage type, for tiny models.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/dtype.h"

namespace sentencekv {

// SplitMix64 (https://prng.di.unimi.it/splitmix64.c): the same numbers on
// every machine and library.
class TinyRandom {
 public:
  explicit TinyRandom(uint64_t seed) : state_(seed) {}
  uint64_t Next();
  // Uniform in [-1, 1).
  float NextSigned();

 private:
  uint64_t state_;
};

// `rows` x `cols` values, roughly uniform in [-scale, scale], in `type`. The
// types up to Q8_0 are quantised by rounding; blocks of K-quants have random
// bits under scales that give the range. cols is a multiple of the block.
std::string RandomTensorData(SourceType type, int64_t rows, int64_t cols,
                             float scale, TinyRandom* random);

// Quantises values by rounding. REQUIRES: not a K-quant.
std::string QuantizeValues(SourceType type, const std::vector<float>& values);

}  // namespace sentencekv
