// Bins of scores, which are at least 0: those that share exponent and 2 bits of
// the fraction.
#pragma once

#include <cstdint>

namespace sentencekv {

inline constexpr uint32_t kScoreBins = 1u << 10;

// Rises with the score. NaN may have a sign.
static inline uint32_t ScoreBin(float score) {
  uint32_t bits;
  __builtin_memcpy(&bits, &score, sizeof(bits));
  return (bits >> 31) != 0 ? 0 : bits >> 21;
}

}  // namespace sentencekv
