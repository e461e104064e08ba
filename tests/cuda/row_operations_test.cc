// Embed, RmsNorm, SwiGlu and GatherRows of the CUDA backend, against the CPU's.
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "fmt/format.h"
#include "gtest/gtest.h"
#include "kernels/half.h"
#include "tests/cuda/backend_under_test.h"
#include "tests/support/random_matrix.h"

namespace sentencekv {
namespace {

constexpr int64_t kWidths[] = {1, 3, 7, 16, 37, 64, 200, 1028, 2050};
constexpr int64_t kRowCounts[] = {1, 2, 7, 33};

class RowOperationsTest : public CudaBackendTest {};

INSTANTIATE_TEST_SUITE_P(Seeds, RowOperationsTest,
                         testing::ValuesIn(DeviceSeeds()));

void ExpectNear(const std::vector<float>& actual,
                const std::vector<float>& expected, float tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i],
                tolerance * std::fabs(expected[i]) + 1e-30)
        << i;
  }
}

TEST_P(RowOperationsTest, EmbedsRowsRoundedToBf16) {
  const std::vector<int32_t> tokens = {4, 0, 4, 6, 1};
  const auto num_tokens = std::ssize(tokens);
  for (const SourceType type :
       {SourceType::kF32, SourceType::kF16, SourceType::kBF16,
        SourceType::kQ8_0, SourceType::kQ4_K, SourceType::kQ6_K}) {
    for (const int64_t width : {1, 7, 12, 33, 256, 1280}) {
      if (width % BlockElements(type) != 0) continue;
      SCOPED_TRACE(fmt::format("{} width {}", Name(type), width));
      const RandomMatrix matrix(type, 7, width, 20261123);
      const MatrixSource source = matrix.source();
      const auto table = backend_->PackWeights({&source, 1});
      ASSERT_TRUE(table.ok()) << table.status();
      EXPECT_EQ(table->rows, 7);
      EXPECT_EQ(table->cols, width);
      const Buffer out =
          Upload(std::vector<float>(num_tokens * width, -12345.0f));
      ASSERT_TRUE(backend_
                      ->Embed({.table = &*table,
                               .tokens = tokens.data(),
                               .out = out.as<float>(),
                               .num_tokens = num_tokens})
                      .ok());
      std::vector<float> expected;
      for (const int32_t token : tokens) {
        for (const float value : matrix.Row(token)) {
          expected.push_back(Bf16ToF32(F32ToBf16(value)));
        }
      }
      EXPECT_EQ(Download<float>(out), expected);
    }
  }
}

TEST_P(RowOperationsTest, NormsLikeTheCpu) {
  for (const int64_t width : kWidths) {
    for (const int64_t rows : kRowCounts) {
      SCOPED_TRACE(fmt::format("width {} rows {}", width, rows));
      const std::vector<float> x = RandomFloats(rows * width, 1);
      const std::vector<float> weight = RandomFloats(width, 2);
      std::vector<float> expected(x.size());
      ASSERT_TRUE(cpu_->RmsNorm({x.data(), weight.data(), expected.data(), rows,
                                 width, 1e-5f})
                      .ok());
      const Buffer in = Upload(x);
      const Buffer weights = Upload(weight);
      const Buffer out = Upload(std::vector<float>(x.size(), -12345.0f));
      RmsNormParams params = {in.as<float>(),  weights.as<float>(),
                              out.as<float>(), rows,
                              width,           1e-5f};
      ASSERT_TRUE(backend_->RmsNorm(params).ok());
      const std::vector<float> actual = Download<float>(out);
      ExpectNear(actual, expected, 2e-6f);
      // In place, and the last row alone: the same bits.
      params.out = in.as<float>();
      ASSERT_TRUE(backend_->RmsNorm(params).ok());
      EXPECT_EQ(Download<float>(in), actual);
      const Buffer last = Upload(std::vector<float>(x.end() - width, x.end()));
      params.x = params.out = last.as<float>();
      params.num_rows = 1;
      ASSERT_TRUE(backend_->RmsNorm(params).ok());
      EXPECT_EQ(Download<float>(last),
                std::vector<float>(actual.end() - width, actual.end()));
    }
  }
}

// Addresses that allow no wide access.
TEST_P(RowOperationsTest, TakesAnyAlignment) {
  constexpr int64_t kRows = 3;
  constexpr int64_t kWidth = 20;
  const std::vector<float> x = RandomFloats(2 * kRows * kWidth + 1, 1);
  std::vector<float> expected(kRows * kWidth);
  const Buffer in = Upload(x);
  const Buffer out = Upload(std::vector<float>(kRows * kWidth + 1, 0.0f));
  const auto check = [&] {
    const std::vector<float> actual = Download<float>(out);
    EXPECT_EQ(actual[0], 0.0f);
    ExpectNear({actual.begin() + 1, actual.end()}, expected, 3e-6f);
  };
  ASSERT_TRUE(cpu_->RmsNorm({x.data() + 1, x.data() + 3, expected.data(), kRows,
                             kWidth, 1e-5f})
                  .ok());
  ASSERT_TRUE(backend_
                  ->RmsNorm({in.as<float>() + 1, in.as<float>() + 3,
                             out.as<float>() + 1, kRows, kWidth, 1e-5f})
                  .ok());
  check();
  ASSERT_TRUE(
      cpu_->SwiGlu({x.data() + 1, expected.data(), kRows, kWidth}).ok());
  ASSERT_TRUE(
      backend_->SwiGlu({in.as<float>() + 1, out.as<float>() + 1, kRows, kWidth})
          .ok());
  check();
  const std::vector<int32_t> rows = {2, 0, 1};
  ASSERT_TRUE(cpu_->GatherRows({x.data() + 1, rows.data(), expected.data(),
                                kRows, kWidth})
                  .ok());
  ASSERT_TRUE(backend_
                  ->GatherRows({in.as<float>() + 1, rows.data(),
                                out.as<float>() + 1, kRows, kWidth})
                  .ok());
  check();
}

TEST_P(RowOperationsTest, GatesLikeTheCpu) {
  for (const int64_t width : kWidths) {
    for (const int64_t rows : kRowCounts) {
      SCOPED_TRACE(fmt::format("width {} rows {}", width, rows));
      std::vector<float> gate_up = RandomFloats(rows * 2 * width, 3);
      for (float& value : gate_up) value *= 4;
      std::vector<float> expected(rows * width);
      ASSERT_TRUE(
          cpu_->SwiGlu({gate_up.data(), expected.data(), rows, width}).ok());
      const Buffer in = Upload(gate_up);
      const Buffer out = Upload(std::vector<float>(rows * width, -12345.0f));
      ASSERT_TRUE(
          backend_->SwiGlu({in.as<float>(), out.as<float>(), rows, width})
              .ok());
      ExpectNear(Download<float>(out), expected, 3e-6f);
    }
  }
}

TEST_P(RowOperationsTest, GatesExtremes) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> gate_up = {0.0f,    -0.0f, 1e-30f, 88.0f,    -87.0f,
                                -100.0f, 1e5f,  -1e5f,  infinity, nan};
  const auto count = std::ssize(gate_up);
  gate_up.resize(2 * count, 1.0f);
  const Buffer in = Upload(gate_up);
  const Buffer out = Upload(std::vector<float>(count, -12345.0f));
  ASSERT_TRUE(
      backend_->SwiGlu({in.as<float>(), out.as<float>(), 1, count}).ok());
  const std::vector<float> actual = Download<float>(out);
  for (int64_t i = 0; i < count; ++i) {
    SCOPED_TRACE(gate_up[i]);
    const double gate = gate_up[i];
    if (std::isnan(gate)) {
      EXPECT_TRUE(std::isnan(actual[i]));
    } else if (std::isinf(gate)) {
      EXPECT_EQ(actual[i], infinity);
    } else {
      const double expected = gate / (1.0 + std::exp(-gate));
      EXPECT_NEAR(actual[i], expected, 3e-6 * std::fabs(expected) + 1e-35);
    }
  }
}

TEST_P(RowOperationsTest, GathersRows) {
  const std::vector<int32_t> rows = {4, 0, 0, 3, 4};
  const auto num_rows = std::ssize(rows);
  for (const int64_t width : kWidths) {
    SCOPED_TRACE(width);
    const std::vector<float> x = RandomFloats(5 * width, 4);
    std::vector<float> expected(num_rows * width);
    ASSERT_TRUE(cpu_->GatherRows({x.data(), rows.data(), expected.data(),
                                  num_rows, width})
                    .ok());
    const Buffer in = Upload(x);
    const Buffer out = Upload(std::vector<float>(expected.size(), -1.0f));
    ASSERT_TRUE(backend_
                    ->GatherRows({in.as<float>(), rows.data(), out.as<float>(),
                                  num_rows, width})
                    .ok());
    EXPECT_EQ(Download<float>(out), expected);
  }
}

TEST_P(RowOperationsTest, EmptyOperationsDoNothing) {
  EXPECT_TRUE(backend_->Embed({}).ok());
  EXPECT_TRUE(backend_->RmsNorm({}).ok());
  EXPECT_TRUE(backend_->SwiGlu({}).ok());
  EXPECT_TRUE(backend_->GatherRows({}).ok());
  EXPECT_TRUE(backend_->MatMul({}).ok());
  EXPECT_TRUE(backend_->RopeTable({}).ok());
  EXPECT_TRUE(backend_->RopeStoreKv({}).ok());
  EXPECT_TRUE(backend_->CopyPages({}).ok());
  EXPECT_TRUE(backend_->ReadKeys({}).ok());
}

}  // namespace
}  // namespace sentencekv
