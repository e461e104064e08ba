// PackWeights and MatMul of the CUDA backend, against the CPU's with the same
// weights and inputs, all of them bf16.
#include <cmath>
#include <cstdint>
#include <vector>

#include "fmt/format.h"
#include "gtest/gtest.h"
#include "kernels/half.h"
#include "tests/cuda/backend_under_test.h"
#include "tests/support/random_matrix.h"

namespace sentencekv {
namespace {

class MatrixProductsTest : public CudaBackendTest {
 protected:
  WeightMatrix Pack(Backend& backend, std::vector<MatrixSource> parts) {
    auto packed = backend.PackWeights(parts);
    EXPECT_TRUE(packed.ok()) << packed.status();
    return *std::move(packed);
  }
  // out is `initial` before; with `accumulate` it is added to.
  std::vector<float> Multiply(const WeightMatrix& weight,
                              const std::vector<float>& x, int64_t num_rows,
                              const std::vector<float>& bias,
                              const std::vector<float>& initial,
                              bool accumulate) {
    const Buffer in = Upload(x);
    const Buffer out = Upload(initial);
    const Buffer bias_buffer = Upload(bias);
    const absl::Status status = backend_->MatMul(
        {.weight = &weight,
         .x = in.as<float>(),
         .bias = bias.empty() ? nullptr : bias_buffer.as<float>(),
         .out = out.as<float>(),
         .num_rows = num_rows,
         .accumulate = accumulate});
    EXPECT_TRUE(status.ok()) << status;
    return Download<float>(out);
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, MatrixProductsTest,
                         testing::ValuesIn(DeviceSeeds()));

std::vector<float> RoundedToBf16(std::vector<float> values) {
  for (float& value : values) value = Bf16ToF32(F32ToBf16(value));
  return values;
}

TEST_P(MatrixProductsTest, EqualTheCpus) {
  struct Size {
    int64_t n, k, t;
  };
  for (const Size& size :
       {Size{1, 1, 1}, Size{3, 7, 2}, Size{16, 16, 5}, Size{37, 33, 3},
        Size{64, 128, 1}, Size{20, 200, 17}, Size{5, 64, 70}}) {
    const RandomMatrix matrix(SourceType::kBF16, size.n, size.k, 7);
    const WeightMatrix weight = Pack(*backend_, {matrix.source()});
    const WeightMatrix cpu_weight = Pack(*cpu_, {matrix.source()});
    const std::vector<float> x =
        RoundedToBf16(RandomFloats(size.t * size.k, 8));
    for (const bool has_bias : {false, true}) {
      for (const bool accumulate : {false, true}) {
        SCOPED_TRACE(fmt::format("{} x {}, {} rows, bias {}, accumulate {}",
                                 size.n, size.k, size.t, has_bias, accumulate));
        const std::vector<float> bias = RandomFloats(has_bias ? size.n : 0, 9);
        const std::vector<float> initial = RandomFloats(size.t * size.n, 10);
        std::vector<float> expected = initial;
        ASSERT_TRUE(cpu_->MatMul({.weight = &cpu_weight,
                                  .x = x.data(),
                                  .bias = has_bias ? bias.data() : nullptr,
                                  .out = expected.data(),
                                  .num_rows = size.t,
                                  .accumulate = accumulate})
                        .ok());
        const std::vector<float> actual =
            Multiply(weight, x, size.t, bias, initial, accumulate);
        for (int64_t i = 0; i < size.t * size.n; ++i) {
          // Each of K additions rounds by 2^-24 of the magnitude so far, on
          // both sides.
          double magnitude = std::fabs(initial[i]) + 4;
          const std::vector<float> row = matrix.Row(i % size.n);
          for (int64_t k = 0; k < size.k; ++k) {
            magnitude += std::fabs(row[k] * x[i / size.n * size.k + k]);
          }
          ASSERT_NEAR(actual[i], expected[i],
                      static_cast<double>(size.k + 4) * 0x1p-23 * magnitude)
              << i;
        }
      }
    }
  }
}

// x is rounded to bf16, whatever it holds.
TEST_P(MatrixProductsTest, RoundTheirInput) {
  const RandomMatrix matrix(SourceType::kBF16, 9, 40, 7);
  const WeightMatrix weight = Pack(*backend_, {matrix.source()});
  const std::vector<float> x = RandomFloats(3 * 40, 8);
  const std::vector<float> out(3 * 9, 0.0f);
  EXPECT_EQ(Multiply(weight, x, 3, {}, out, false),
            Multiply(weight, RoundedToBf16(x), 3, {}, out, false));
}

// Contract, rule 4.
TEST_P(MatrixProductsTest, RowsDoNotDependOnTheirNumber) {
  constexpr int64_t kN = 72;
  constexpr int64_t kK = 256;
  constexpr int64_t kRows = 70;
  const RandomMatrix matrix(SourceType::kBF16, kN, kK, 7);
  const WeightMatrix weight = Pack(*backend_, {matrix.source()});
  const std::vector<float> x = RandomFloats(kRows * kK, 8);
  const std::vector<float> all = Multiply(
      weight, x, kRows, {}, std::vector<float>(kRows * kN, 0.0f), false);
  for (const int64_t count : {1, 2, 9, 33}) {
    for (int64_t begin = 0; begin + count <= kRows; begin += 23) {
      SCOPED_TRACE(fmt::format("{} rows from {}", count, begin));
      const std::vector<float> some(x.begin() + begin * kK,
                                    x.begin() + (begin + count) * kK);
      EXPECT_EQ(Multiply(weight, some, count, {},
                         std::vector<float>(count * kN, 0.0f), false),
                std::vector<float>(all.begin() + begin * kN,
                                   all.begin() + (begin + count) * kN));
    }
  }
}

// Parts of any format are stacked; products with rows of the unit matrix show
// every weight.
TEST_P(MatrixProductsTest, PackPartsOfAnyFormat) {
  constexpr int64_t kCols = 256;
  const SourceType types[] = {
      SourceType::kF32,  SourceType::kF16,  SourceType::kBF16,
      SourceType::kQ8_0, SourceType::kQ4_0, SourceType::kQ4_1,
      SourceType::kQ5_0, SourceType::kQ5_1, SourceType::kQ4_K,
      SourceType::kQ5_K, SourceType::kQ6_K};
  std::vector<RandomMatrix> matrices;
  std::vector<MatrixSource> parts;
  for (const SourceType type : types) {
    matrices.emplace_back(type, 1 + std::ssize(matrices) % 3, kCols, 11);
  }
  std::vector<float> expected;  // [rows][cols]
  for (const RandomMatrix& matrix : matrices) {
    parts.push_back(matrix.source());
    for (int64_t row = 0; row < matrix.source().rows; ++row) {
      const std::vector<float> values = RoundedToBf16(matrix.Row(row));
      expected.insert(expected.end(), values.begin(), values.end());
    }
  }
  const WeightMatrix weight = Pack(*backend_, parts);
  ASSERT_EQ(weight.rows * kCols, std::ssize(expected));
  std::vector<float> unit(kCols * kCols, 0.0f);
  for (int64_t i = 0; i < kCols; ++i) unit[i * kCols + i] = 1;
  const std::vector<float> products =
      Multiply(weight, unit, kCols, {},
               std::vector<float>(kCols * weight.rows, -1.0f), false);
  for (int64_t row = 0; row < weight.rows; ++row) {
    for (int64_t col = 0; col < kCols; ++col) {
      ASSERT_EQ(products[col * weight.rows + row], expected[row * kCols + col])
          << row << ", " << col;
    }
  }
}

// Larger than the ring of pinned memory.
TEST_P(MatrixProductsTest, PackMatricesOfAnySize) {
  constexpr int64_t kRows = 1500;
  constexpr int64_t kCols = 203;
  const RandomMatrix matrix(SourceType::kBF16, kRows, kCols, 12);
  const WeightMatrix weight = Pack(*backend_, {matrix.source()});
  std::vector<int32_t> tokens(kRows);
  for (int64_t i = 0; i < kRows; ++i) tokens[i] = static_cast<int32_t>(i);
  const Buffer out = Upload(std::vector<float>(kRows * kCols));
  ASSERT_TRUE(backend_
                  ->Embed({.table = &weight,
                           .tokens = tokens.data(),
                           .out = out.as<float>(),
                           .num_tokens = kRows})
                  .ok());
  const std::vector<float> actual = Download<float>(out);
  for (int64_t row = 0; row < kRows; ++row) {
    ASSERT_EQ(std::vector<float>(actual.begin() + row * kCols,
                                 actual.begin() + (row + 1) * kCols),
              matrix.Row(row))
        << row;
  }
}

}  // namespace
}  // namespace sentencekv
