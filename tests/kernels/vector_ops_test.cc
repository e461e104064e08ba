// RmsNorm, SwiGlu, GatherRows and CopyPages against double precision.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "fmt/format.h"
#include "tests/support/cpu_levels.h"

namespace sentencekv {
namespace {

constexpr uint32_t kSeed = 20240612;
constexpr int64_t kWidths[] = {1, 3, 7, 16, 17, 37, 64, 65, 200, 1000, 1536};
constexpr int64_t kRowCounts[] = {1, 2, 7, 65};

std::vector<float> RandomFloats(int64_t count, float deviation) {
  std::mt19937 random(kSeed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

class VectorOpsTest : public testing::TestWithParam<CpuVariant> {
 protected:
  std::unique_ptr<Backend> backend_ = MakeVariant(GetParam());
};

TEST_P(VectorOpsTest, RmsNormIsTheFormula) {
  for (const int64_t width : kWidths) {
    for (const int64_t rows : kRowCounts) {
      SCOPED_TRACE(fmt::format("width {} rows {}", width, rows));
      const std::vector<float> x = RandomFloats(rows * width, 3.0f);
      const std::vector<float> weight = RandomFloats(width, 1.0f);
      std::vector<float> out(rows * width);
      RmsNormParams params = {x.data(), weight.data(), out.data(),
                              rows,     width,         1e-5f};
      ASSERT_TRUE(backend_->RmsNorm(params).ok());
      std::vector<float> in_place = x;
      params.x = params.out = in_place.data();
      ASSERT_TRUE(backend_->RmsNorm(params).ok());
      EXPECT_EQ(in_place, out);
      for (int64_t r = 0; r < rows; ++r) {
        double squares = 0;
        for (int64_t i = 0; i < width; ++i) {
          squares += static_cast<double>(x[r * width + i]) * x[r * width + i];
        }
        const double norm =
            std::sqrt(squares / static_cast<double>(width) + 1e-5);
        for (int64_t i = 0; i < width; ++i) {
          const double expected = x[r * width + i] / norm * weight[i];
          // A handful of roundings, and those of the sum averaged out.
          ASSERT_NEAR(out[r * width + i], expected,
                      1e-6 * std::fabs(expected) + 1e-30)
              << r << ", " << i;
        }
      }
    }
  }
}

TEST_P(VectorOpsTest, RmsNormOfZerosIsZero) {
  const std::vector<float> x(37, 0.0f);
  const std::vector<float> weight(37, 2.0f);
  std::vector<float> out(37, 1.0f);
  ASSERT_TRUE(
      backend_->RmsNorm({x.data(), weight.data(), out.data(), 1, 37, 1e-5f})
          .ok());
  EXPECT_EQ(out, x);
}

TEST_P(VectorOpsTest, SwiGluIsTheFormula) {
  for (const int64_t width : kWidths) {
    for (const int64_t rows : kRowCounts) {
      SCOPED_TRACE(fmt::format("width {} rows {}", width, rows));
      const std::vector<float> gate_up = RandomFloats(rows * 2 * width, 4.0f);
      std::vector<float> out(rows * width);
      ASSERT_TRUE(
          backend_->SwiGlu({gate_up.data(), out.data(), rows, width}).ok());
      for (int64_t i = 0; i < rows * width; ++i) {
        const int64_t at = i / width * 2 * width + i % width;
        const double gate = gate_up[at];
        const double expected =
            gate / (1.0 + std::exp(-gate)) * gate_up[at + width];
        // The exponential is good to 4e-7, and its argument's rounding adds
        // |gate| times 6e-8.
        ASSERT_NEAR(out[i], expected, 3e-6 * std::fabs(expected) + 1e-30) << i;
      }
    }
  }
}

TEST_P(VectorOpsTest, SwiGluSurvivesExtremeGates) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float gates[] = {0.0f,   -0.0f,   1e-30f, 88.0f, -87.0f,   -88.0f,
                         -89.0f, -100.0f, 1e5f,   -1e5f, infinity, nan};
  constexpr int64_t kCount = 12;
  std::vector<float> gate_up(gates, gates + kCount);
  gate_up.resize(2 * kCount, 1.0f);
  std::vector<float> out(kCount);
  ASSERT_TRUE(backend_->SwiGlu({gate_up.data(), out.data(), 1, kCount}).ok());
  for (int64_t i = 0; i < kCount; ++i) {
    SCOPED_TRACE(gates[i]);
    const double gate = gates[i];
    const double expected = gate / (1.0 + std::exp(-gate));
    if (std::isnan(gate)) {
      EXPECT_TRUE(std::isnan(out[i]));
    } else if (std::isinf(expected)) {
      EXPECT_EQ(out[i], infinity);
    } else {
      // Below 1e-35 the exponential overflows, and 0 is as good a result.
      EXPECT_NEAR(out[i], expected, 1e-5 * std::fabs(expected) + 1e-35);
    }
  }
}

TEST_P(VectorOpsTest, RowsDoNotDependOnTheirNumber) {
  constexpr int64_t kRows = 300;
  constexpr int64_t kWidth = 577;
  const std::vector<float> x = RandomFloats(kRows * 2 * kWidth, 2.0f);
  std::vector<float> norm(kRows * kWidth);
  std::vector<float> gated(kRows * kWidth);
  ASSERT_TRUE(
      backend_->RmsNorm({x.data(), x.data(), norm.data(), kRows, kWidth, 1e-5f})
          .ok());
  ASSERT_TRUE(backend_->SwiGlu({x.data(), gated.data(), kRows, kWidth}).ok());
  std::vector<float> row(kWidth);
  for (int64_t r = 0; r < kRows; ++r) {
    ASSERT_TRUE(backend_
                    ->RmsNorm({x.data() + r * kWidth, x.data(), row.data(), 1,
                               kWidth, 1e-5f})
                    .ok());
    ASSERT_EQ(std::memcmp(row.data(), norm.data() + r * kWidth, kWidth * 4), 0)
        << r;
    ASSERT_TRUE(
        backend_->SwiGlu({x.data() + r * 2 * kWidth, row.data(), 1, kWidth})
            .ok());
    ASSERT_EQ(std::memcmp(row.data(), gated.data() + r * kWidth, kWidth * 4), 0)
        << r;
  }
}

TEST_P(VectorOpsTest, GathersRows) {
  for (const int64_t width : kWidths) {
    SCOPED_TRACE(width);
    const std::vector<float> x = RandomFloats(9 * width, 1.0f);
    const std::vector<int32_t> rows = {8, 0, 3, 3, 7};
    std::vector<float> out(5 * width);
    ASSERT_TRUE(
        backend_->GatherRows({x.data(), rows.data(), out.data(), 5, width})
            .ok());
    for (int64_t i = 0; i < 5 * width; ++i) {
      ASSERT_EQ(out[i], x[rows[i / width] * width + i % width]) << i;
    }
  }
}

TEST_P(VectorOpsTest, GathersManyRows) {
  constexpr int64_t kRows = 1000;
  constexpr int64_t kWidth = 500;
  const std::vector<float> x = RandomFloats(kRows * kWidth, 1.0f);
  std::vector<int32_t> rows(kRows);
  for (int64_t i = 0; i < kRows; ++i) {
    rows[i] = static_cast<int32_t>(i * 7 % kRows);
  }
  std::vector<float> out(kRows * kWidth);
  ASSERT_TRUE(
      backend_->GatherRows({x.data(), rows.data(), out.data(), kRows, kWidth})
          .ok());
  for (int64_t i = 0; i < kRows; ++i) {
    ASSERT_EQ(std::memcmp(out.data() + i * kWidth, x.data() + rows[i] * kWidth,
                          kWidth * sizeof(float)),
              0)
        << i;
  }
}

TEST_P(VectorOpsTest, CopiesPagesInEveryLayerAndNothingElse) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const int64_t layers : {1, 3, 40}) {
      SCOPED_TRACE(fmt::format("{} layers {}", Name(dtype), layers));
      const KvLayout layout = {.num_layers = layers,
                               .num_pages = 10,
                               .num_kv_heads = 3,
                               .head_dim = 40,
                               .dtype = dtype};
      std::mt19937 random(kSeed);
      std::vector<std::byte> pool(layout.total_bytes());
      for (std::byte& byte : pool) byte = static_cast<std::byte>(random());
      // The second copy reads what the first wrote; the last is of a page to
      // itself.
      const std::vector<int32_t> source = {0, 9, 4, 5};
      const std::vector<int32_t> destination = {9, 2, 7, 5};
      std::vector<std::byte> expected = pool;
      for (int64_t layer = 0; layer < layers; ++layer) {
        for (const auto& [from, to] : {std::pair{0, 9}, {9, 2}, {4, 7}}) {
          std::byte* base = expected.data() + layer * layout.layer_bytes();
          std::memcpy(base + to * layout.page_bytes(),
                      base + from * layout.page_bytes(), layout.page_bytes());
        }
      }
      ASSERT_TRUE(backend_
                      ->CopyPages({layout, pool.data(), source.data(),
                                   destination.data(), 4})
                      .ok());
      EXPECT_EQ(std::memcmp(pool.data(), expected.data(), pool.size()), 0);
    }
  }
}

TEST_P(VectorOpsTest, CopyRowsTouchesNothingElse) {
  std::vector<uint8_t> from(64);
  std::iota(from.begin(), from.end(), uint8_t{1});
  std::vector<uint8_t> to(64, 0);
  ASSERT_TRUE(
      backend_
          ->CopyRows({.source = reinterpret_cast<std::byte*>(&from[1]),
                      .source_stride = 9,
                      .destination = reinterpret_cast<std::byte*>(&to[2]),
                      .destination_stride = 13,
                      .row_bytes = 7,
                      .num_rows = 4})
          .ok());
  std::vector<uint8_t> expected(64, 0);
  for (size_t row = 0; row < 4; ++row) {
    for (size_t i = 0; i < 7; ++i) {
      expected[2 + 13 * row + i] = from[1 + 9 * row + i];
    }
  }
  EXPECT_EQ(to, expected);
}

TEST_P(VectorOpsTest, EmptyOperationsDoNothing) {
  EXPECT_TRUE(backend_->RmsNorm({}).ok());
  EXPECT_TRUE(backend_->SwiGlu({}).ok());
  EXPECT_TRUE(backend_->GatherRows({}).ok());
  EXPECT_TRUE(backend_->CopyPages({}).ok());
  EXPECT_TRUE(backend_->CopyRows({}).ok());
}

INSTANTIATE_TEST_SUITE_P(Cpu, VectorOpsTest, testing::ValuesIn(CpuVariants()),
                         CpuVariantName);

}  // namespace
}  // namespace sentencekv
