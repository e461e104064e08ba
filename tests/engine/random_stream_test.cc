#include "engine/random_stream.h"

#include <cmath>
#include <set>

#include "gtest/gtest.h"

namespace sentencekv {
namespace {

using Words = std::array<uint32_t, 4>;

// Known answers of the generator's authors (Random123, kat_vectors).
TEST(RandomStream, GivesThePublishedAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
                       {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
                       {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomStream, DiffersBySeedAndIndex) {
  std::set<uint64_t> seen;
  for (uint64_t seed : {0ull, 1ull, 1ull << 32, ~0ull}) {
    for (uint64_t index : {0ull, 1ull, 2ull, 1ull << 32, ~0ull}) {
      EXPECT_TRUE(seen.insert(RandomBits(seed, index)).second);
    }
  }
}

TEST(RandomStream, UniformFillsItsRange) {
  // 20,000 draws in 20 bins: chi-square with 19 degrees of freedom stays
  // below 43.8 with probability 0.999.
  constexpr int kDraws = 20000;
  for (uint64_t seed : {1, 2, 3}) {
    std::array<int, 20> bins = {};
    for (int i = 0; i < kDraws; ++i) {
      const double point = RandomUniform(seed, i);
      ASSERT_GE(point, 0.0);
      ASSERT_LT(point, 1.0);
      ++bins[static_cast<size_t>(point * bins.size())];
    }
    double chi_square = 0;
    const double expected = double{kDraws} / bins.size();
    for (int count : bins) {
      chi_square += (count - expected) * (count - expected) / expected;
    }
    EXPECT_LT(chi_square, 43.8) << "seed " << seed;
  }
}

}  // namespace
}  // namespace sentencekv
