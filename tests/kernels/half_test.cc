#include "kernels/half.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace sentencekv {
namespace {

// Value of a finite binary16 by its definition.
double Binary16Value(uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const int mantissa = half & 1023;
  const double magnitude = exponent == 0
                               ? std::ldexp(mantissa, -24)
                               : std::ldexp(1024 + mantissa, exponent - 25);
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

TEST(HalfTest, ReadsEveryBinary16) {
  for (uint32_t half = 0; half <= 0xffff; ++half) {
    const float value = F16ToF32(static_cast<uint16_t>(half));
    EXPECT_EQ(std::signbit(value), half >= 0x8000) << half;
    const uint32_t magnitude = half & 0x7fff;
    if (magnitude > 0x7c00) {
      EXPECT_TRUE(std::isnan(value)) << half;
      EXPECT_NE(std::bit_cast<uint32_t>(value) & 0x400000u, 0u) << half;
    } else if (magnitude == 0x7c00) {
      EXPECT_TRUE(std::isinf(value)) << half;
    } else {
      EXPECT_EQ(value, Binary16Value(static_cast<uint16_t>(half))) << half;
    }
  }
}

TEST(HalfTest, EveryBinary16SurvivesARoundTrip) {
  for (uint32_t half = 0; half <= 0xffff; ++half) {
    const float value = F16ToF32(static_cast<uint16_t>(half));
    const uint32_t quiet = (half & 0x7fff) > 0x7c00 ? half | 0x200 : half;
    EXPECT_EQ(F32ToF16(value), quiet) << half;
  }
}

TEST(HalfTest, RoundsToTheNearestBinary16TiesToEven) {
  // Between each pair of neighbours: the middle and the floats beside it.
  for (uint32_t lower = 0; lower < 0x7bff; ++lower) {
    const auto below = static_cast<uint16_t>(lower);
    const auto above = static_cast<uint16_t>(lower + 1);
    const auto middle = static_cast<float>(
        (Binary16Value(below) + Binary16Value(above)) / 2);  // exact
    const uint16_t even = lower % 2 == 0 ? below : above;
    EXPECT_EQ(F32ToF16(middle), even) << lower;
    EXPECT_EQ(F32ToF16(-middle), even | 0x8000) << lower;
    EXPECT_EQ(F32ToF16(std::nextafter(middle, 0.0f)), below) << lower;
    EXPECT_EQ(F32ToF16(std::nextafter(middle, 1e30f)), above) << lower;
  }
}

TEST(HalfTest, OverflowsToInfinityAndUnderflowsToZero) {
  const float infinity = std::numeric_limits<float>::infinity();
  const struct {
    float value;
    uint16_t half;
  } cases[] = {
      {65504.0f, 0x7bff},
      {std::nextafter(65520.0f, 0.0f), 0x7bff},
      {65520.0f, 0x7c00},
      {3e38f, 0x7c00},
      {infinity, 0x7c00},
      {-infinity, 0xfc00},
      {0.0f, 0},
      {-0.0f, 0x8000},
      {0x1p-25f, 0},
      {std::nextafter(0x1p-25f, 1.0f), 1},
      {1e-45f, 0},
      {-1e-45f, 0x8000},
      {0x1p-14f, 0x0400},
      {0x1.ff8p-15f, 0x03ff},
      {0x1.ffcp-15f, 0x0400},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(F32ToF16(c.value), c.half) << c.value;
  }
}

TEST(HalfTest, ConvertsBfloat16ByItsUpperHalf) {
  const float infinity = std::numeric_limits<float>::infinity();
  const struct {
    uint32_t bits;
    uint16_t half;
  } cases[] = {
      {0x3f800000, 0x3f80},  // 1
      {0x3f808000, 0x3f80},  // tie to even, down
      {0x3f818000, 0x3f82},  // tie to even, up
      {0x3f808001, 0x3f81},  // just above a tie
      {0x3f817fff, 0x3f81},  // just below a tie
      {0x7f7fffff, 0x7f80},  // the largest float rounds to infinity
      {0x00008000, 0x0000},  // denormal tie
      {0x00018000, 0x0002},
      {0x80000000, 0x8000},
      {std::bit_cast<uint32_t>(infinity), 0x7f80},
      {0x7f800001, 0x7fc0},  // a NaN with no upper payload stays NaN
      {0xffffffff, 0xffff},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(F32ToBf16(std::bit_cast<float>(c.bits)), c.half)
        << std::hex << c.bits;
  }
  for (uint32_t half = 0; half <= 0xffff; ++half) {
    const float value = Bf16ToF32(static_cast<uint16_t>(half));
    EXPECT_EQ(std::bit_cast<uint32_t>(value), half << 16);
    if (std::isnan(value)) continue;
    EXPECT_EQ(F32ToBf16(value), half);
  }
}

}  // namespace
}  // namespace sentencekv
