// Random numbers by position: Philox4x32-10, a counter-based generator
// (Salmon et al., SC 2011, https://doi.org/10.1145/2063384.2063405).
//
// A draw is a function of (seed, index) alone. A request's n-th token thus
// gets the same number whatever else runs, and after a preemption, with no
// state to keep.
#pragma once

#include <array>
#include <cstdint>

namespace sentencekv {

// Ten rounds of Philox 4x32 on `counter` under `key`.
constexpr std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter,
                                             std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xd2511f53} * counter[0];
    const uint64_t product1 = uint64_t{0xcd9e8d57} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += 0x9e3779b9;
    key[1] += 0xbb67ae85;
  }
  return counter;
}

// 64 random bits for draw number `index` of the stream named `seed`.
constexpr uint64_t RandomBits(uint64_t seed, uint64_t index) {
  const auto words = Philox4x32(
      {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), 0, 0},
      {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return uint64_t{words[1]} << 32 | words[0];
}

// The same as a number in [0, 1), a multiple of 2^-53.
constexpr double RandomUniform(uint64_t seed, uint64_t index) {
  return static_cast<double>(RandomBits(seed, index) >> 11) * 0x1p-53;
}

}  // namespace sentencekv
