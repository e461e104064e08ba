#include "kernels/block_formats.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "kernels/half.h"

namespace sentencekv {
namespace {

// Reproducible bytes: the upper byte of a linear congruential generator.
std::vector<std::byte> GeneratedBytes(int64_t size, uint32_t state) {
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<std::byte>(state >> 24);
  }
  return bytes;
}

// Values that the reader published with the format (the Python package gguf
// 0.19) gives for 512 elements of GeneratedBytes(size, 12345), with the f16
// scales at `scale_offsets` of each block brought to about 1/16.
struct GoldenRow {
  SourceType type;
  std::vector<int> scale_offsets;
  double sum;           // of value[i]
  double weighted_sum;  // of (i + 1) value[i]
  float samples[6];     // at kSamples
};
constexpr int kSamples[6] = {0, 17, 100, 255, 256, 511};
constexpr int64_t kGoldenElements = 512;

const GoldenRow kGolden[] = {
    {SourceType::kQ8_0,
     {0},
     397.8828125,
     135186.17401123047,
     {-7.34820557f, -0.816467285f, -3.12554932f, 3.58032227f, -2.73522949f,
      1.68151855f}},
    {SourceType::kQ4_0,
     {0},
     13.28204345703125,
     4405.028869628906,
     {0.188415527f, 0.125610352f, -0.277587891f, 0.197998047f, -0.192810059f,
      0.181274414f}},
    {SourceType::kQ4_1,
     {0, 2},
     64.31256103515625,
     27667.10821533203,
     {0.40020752f, -0.0394287109f, -0.680541992f, 0.208007812f, 1.0993042f,
      0.07421875f}},
    {SourceType::kQ5_0,
     {0},
     -8.161865234375,
     -1434.1513671875,
     {0.879272461f, -0.502441406f, 1.37915039f, -1.10687256f, 0.877563477f,
      0.0f}},
    {SourceType::kQ5_1,
     {0, 2},
     102.2081298828125,
     33130.60949707031,
     {0.40020752f, 1.65631104f, 0.0260009766f, 0.847961426f, 0.974731445f,
      -0.941711426f}},
    {SourceType::kQ4_K,
     {0, 2},
     629.4793701171875,
     -1043305.577331543,
     {15.0146484f, 27.5756836f, 13.12146f, 17.9298706f, -26.0808105f,
      -19.8953247f}},
    {SourceType::kQ5_K,
     {0, 2},
     16552.019165039062,
     3689626.075317383,
     {55.2099609f, 25.0634766f, 25.9337158f, 48.1391602f, 56.8773193f,
      -0.698730469f}},
    {SourceType::kQ6_K,
     {208},
     -4120.031921386719,
     -1034676.9854125977,
     {-164.867432f, 274.779053f, -4.65234375f, -75.9882812f, 85.9905396f,
      -29.0357666f}},
};

std::vector<std::byte> GoldenBytes(const GoldenRow& golden) {
  const int64_t block_bytes = BlockBytes(golden.type);
  const int64_t num_blocks = kGoldenElements / BlockElements(golden.type);
  std::vector<std::byte> bytes =
      GeneratedBytes(num_blocks * block_bytes, 12345);
  for (int64_t b = 0; b < num_blocks; ++b) {
    for (const int offset : golden.scale_offsets) {
      std::byte& upper = bytes[b * block_bytes + offset + 1];
      upper = (upper & std::byte{0x83}) | std::byte{0x2c};
    }
  }
  return bytes;
}

class BlockFormatsTest : public testing::TestWithParam<GoldenRow> {};

TEST_P(BlockFormatsTest, AgreesWithThePublishedReader) {
  const GoldenRow& golden = GetParam();
  const std::vector<std::byte> bytes = GoldenBytes(golden);
  std::vector<float> values(kGoldenElements);
  DequantizeRow(golden.type, bytes.data(), kGoldenElements, values.data());
  double sum = 0;
  double weighted_sum = 0;
  for (int64_t i = 0; i < kGoldenElements; ++i) {
    sum += values[i];
    weighted_sum += static_cast<double>(i + 1) * values[i];
  }
  // Sums of floats in double are exact to 1e-12 of their largest terms; a
  // single misplaced bit of one element moves them by far more.
  EXPECT_NEAR(sum, golden.sum, 1e-8);
  EXPECT_NEAR(weighted_sum, golden.weighted_sum, 1e-5);
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(values[kSamples[i]], golden.samples[i]) << kSamples[i];
  }
}

TEST_P(BlockFormatsTest, GroupsGiveTheSameValues) {
  const GoldenRow& golden = GetParam();
  ASSERT_TRUE(IsQuantized(golden.type));
  const std::vector<std::byte> bytes = GoldenBytes(golden);
  std::vector<float> values(kGoldenElements);
  DequantizeRow(golden.type, bytes.data(), kGoldenElements, values.data());
  std::vector<QuantGroup> groups(kGoldenElements / kGroupElements);
  DecodeGroups(golden.type, bytes.data(), kGoldenElements, groups.data());
  for (int64_t i = 0; i < kGoldenElements; ++i) {
    const QuantGroup& group = groups[i / kGroupElements];
    const int64_t lane = i % kGroupElements;
    EXPECT_EQ(values[i],
              group.scale[lane / 16] * static_cast<float>(group.q[lane]) +
                  group.minimum)
        << i;
  }
}

TEST_P(BlockFormatsTest, StaysInsideItsRowForAnyBytes) {
  const SourceType type = GetParam().type;
  const int64_t elements = BlockElements(type);
  for (uint32_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE(seed);
    // Off by one byte: rows of a file have no alignment. The vectors end where
    // the row does, so the address sanitizer sees any step beyond.
    std::vector<std::byte> bytes = GeneratedBytes(BlockBytes(type) + 1, seed);
    std::vector<float> values(elements + 1, 42.0f);
    DequantizeRow(type, bytes.data() + 1, elements, values.data());
    EXPECT_EQ(values[elements], 42.0f);
  }
}

TEST_P(BlockFormatsTest, NoElementsWriteNothing) {
  float value = 42.0f;
  DequantizeRow(GetParam().type, nullptr, 0, &value);
  EXPECT_EQ(value, 42.0f);
}

INSTANTIATE_TEST_SUITE_P(All, BlockFormatsTest, testing::ValuesIn(kGolden),
                         [](const testing::TestParamInfo<GoldenRow>& info) {
                           return std::string(Name(info.param.type));
                         });

TEST(BlockFormatsRangeTest, GroupsReachTheEndsOfTheirRange) {
  const struct {
    SourceType type;
    int low;
    int high;
  } cases[] = {
      {SourceType::kQ8_0, 0, -1}, {SourceType::kQ4_0, -8, 7},
      {SourceType::kQ4_1, 0, 15}, {SourceType::kQ5_0, -16, 15},
      {SourceType::kQ5_1, 0, 31}, {SourceType::kQ4_K, 0, 15},
      {SourceType::kQ5_K, 0, 31}, {SourceType::kQ6_K, -32, 31},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(Name(c.type));
    const int64_t elements = BlockElements(c.type);
    std::vector<QuantGroup> groups(elements / kGroupElements);
    for (const bool ones : {false, true}) {
      const std::vector<std::byte> bytes(BlockBytes(c.type),
                                         ones ? std::byte{0xff} : std::byte{0});
      DecodeGroups(c.type, bytes.data(), elements, groups.data());
      for (const QuantGroup& group : groups) {
        for (const int8_t q : group.q) EXPECT_EQ(q, ones ? c.high : c.low);
      }
    }
  }
}

TEST(PlainFormatsTest, ReadUnalignedRows) {
  const float values[] = {0.0f, -1.5f, 65504.0f, 0x1p-24f, 3.0f, -0.0f, 0.5f};
  constexpr int64_t kCount = 7;
  for (const SourceType type :
       {SourceType::kF32, SourceType::kF16, SourceType::kBF16}) {
    SCOPED_TRACE(Name(type));
    EXPECT_FALSE(IsQuantized(type));
    const int64_t size = BlockBytes(type);
    std::vector<std::byte> bytes(kCount * size + 1);
    float expected[kCount];
    for (int64_t i = 0; i < kCount; ++i) {
      std::byte* to = bytes.data() + 1 + i * size;
      if (type == SourceType::kF32) {
        std::memcpy(to, &values[i], sizeof(float));
        expected[i] = values[i];
        continue;
      }
      const bool f16 = type == SourceType::kF16;
      const uint16_t half = f16 ? F32ToF16(values[i]) : F32ToBf16(values[i]);
      std::memcpy(to, &half, sizeof(half));
      expected[i] = f16 ? F16ToF32(half) : Bf16ToF32(half);
    }
    float out[kCount];
    DequantizeRow(type, bytes.data() + 1, kCount, out);
    for (int64_t i = 0; i < kCount; ++i) EXPECT_EQ(out[i], expected[i]) << i;
  }
}

TEST(BlockFormatsDeathTest, RefusesPartsOfABlock) {
  const std::vector<std::byte> bytes(256);
  std::vector<float> out(256);
  std::vector<QuantGroup> groups(8);
  EXPECT_DEATH(DequantizeRow(SourceType::kQ4_K, bytes.data(), 32, out.data()),
               "check failed");
  EXPECT_DEATH(DecodeGroups(SourceType::kF16, bytes.data(), 32, groups.data()),
               "check failed");
}

}  // namespace
}  // namespace sentencekv
