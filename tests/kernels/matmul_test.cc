// Matrix products of every weight format at every level of this machine,
// against sums in double precision, and the promise that results do not depend
// on the batch, bit by bit.
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/weight_packing.h"
#include "tests/support/random_matrix.h"

namespace sentencekv {
namespace {

std::vector<CpuLevel> Levels() {
  std::vector<CpuLevel> levels;
  for (const CpuLevel level :
       {CpuLevel::kPortable, CpuLevel::kAvx2, CpuLevel::kAvx512}) {
    if (level <= DetectCpuLevel()) levels.push_back(level);
  }
  return levels;
}

std::unique_ptr<Backend> MakeBackend(CpuLevel level, int num_threads) {
  auto backend = MakeCpuBackend({.num_threads = num_threads, .level = level});
  EXPECT_TRUE(backend.ok()) << backend.status();
  return std::move(backend).value();
}

WeightMatrix Pack(Backend& backend, const RandomMatrix& matrix) {
  const MatrixSource source = matrix.source();
  auto packed = backend.PackWeights({&source, 1});
  EXPECT_TRUE(packed.ok()) << packed.status();
  return std::move(packed).value();
}

// A product and what came out.
struct Product {
  const WeightMatrix* weight;
  std::vector<float> x;
  int64_t num_rows;
  std::vector<float> bias;     // empty: none
  std::vector<float> initial;  // empty: no accumulation
};

std::vector<float> Multiply(Backend& backend, const Product& product) {
  const auto size =
      static_cast<size_t>(product.num_rows * product.weight->rows);
  // A value no sum should leave in place.
  std::vector<float> out(size, -12345.0f);
  if (!product.initial.empty()) out = product.initial;
  const absl::Status status = backend.MatMul({
      .weight = product.weight,
      .x = product.x.data(),
      .bias = product.bias.empty() ? nullptr : product.bias.data(),
      .out = out.data(),
      .num_rows = product.num_rows,
      .accumulate = !product.initial.empty(),
  });
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

// What the kernels see of x: rounded to 8 bits per 32 columns for quantised
// weights, as op_params.h says.
std::vector<double> SeenActivations(const Product& product) {
  std::vector<double> seen(product.x.begin(), product.x.end());
  const WeightFormat format = product.weight->format;
  if (format != WeightFormat::kQ4 && format != WeightFormat::kQ8) return seen;
  for (size_t begin = 0; begin < seen.size(); begin += 32) {
    float largest = 0;
    for (size_t i = begin; i < begin + 32; ++i) {
      largest = std::max(largest, std::fabs(product.x[i]));
    }
    const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
    for (size_t i = begin; i < begin + 32; ++i) {
      const float level = std::nearbyint(product.x[i] * inverse);
      seen[i] = static_cast<double>(largest / 127.0f) * level;
    }
  }
  return seen;
}

// Compares all elements. The bound is the worst case of summing in f32: each
// of n additions and products rounds by at most 2^-24 of the sum of the
// magnitudes so far; n is K for float weights, and for quantised ones 4 times
// the blocks (their integer sums are exact), plus bias, accumulation and the
// rounding of scales.
void ExpectNearReference(const Product& product,
                         const std::vector<float>& actual) {
  const int64_t n = product.weight->rows;
  const int64_t k = product.weight->cols;
  const bool quantized = product.weight->format >= WeightFormat::kQ4;
  const std::vector<double> x = SeenActivations(product);
  std::vector<float> weights(static_cast<size_t>(k));
  const double steps = static_cast<double>(quantized ? k / 32 * 4 : 2 * k) + 4;
  for (int64_t row = 0; row < n; ++row) {
    UnpackRow(*product.weight, row, weights.data());
    for (int64_t t = 0; t < product.num_rows; ++t) {
      const auto index = static_cast<size_t>(t * n + row);
      double sum = 0;
      double magnitude = 0;
      const auto add = [&](double term) {
        sum += term;
        magnitude += std::fabs(term);
      };
      // Weight times x; scale * q and minimum cancel within a weight, so
      // their magnitudes are bounded by 32 times the activation's.
      for (int64_t i = 0; i < k; ++i) {
        const double value = x[static_cast<size_t>(t * k + i)];
        const double weight = weights[static_cast<size_t>(i)];
        add(weight * value);
        if (quantized) magnitude += std::fabs(value);
      }
      if (!product.bias.empty()) add(product.bias[static_cast<size_t>(row)]);
      if (!product.initial.empty()) add(product.initial[index]);
      ASSERT_NEAR(actual[index], sum, steps * 0x1p-24 * magnitude)
          << "row " << t << " output " << row;
    }
  }
}

struct Case {
  CpuLevel level;
  SourceType type;
};

std::string CaseName(const testing::TestParamInfo<Case>& info) {
  return fmt::format("{}_{}", Name(info.param.level), Name(info.param.type));
}

std::vector<Case> AllCases() {
  std::vector<Case> cases;
  for (const CpuLevel level : Levels()) {
    for (const SourceType type :
         {SourceType::kF32, SourceType::kF16, SourceType::kBF16,
          SourceType::kQ4_1, SourceType::kQ8_0}) {
      cases.push_back({level, type});
    }
  }
  return cases;
}

class MatMulTest : public testing::TestWithParam<Case> {
 protected:
  static constexpr uint32_t kSeed = 20240613;

  // Column counts that are hard on the type's loops.
  std::vector<int64_t> ColumnCounts() const {
    if (BlockElements(GetParam().type) == 1) return {1, 2, 7, 33, 100, 513};
    return {32, 64, 96, 576, 1536};
  }
};

TEST_P(MatMulTest, EqualsTheReference) {
  auto backend = MakeBackend(GetParam().level, 2);
  for (const int64_t n : {1, 15, 16, 17, 37, 100}) {
    for (const int64_t k : ColumnCounts()) {
      const RandomMatrix matrix(GetParam().type, n, k, kSeed);
      const WeightMatrix weight = Pack(*backend, matrix);
      for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 16, 37}) {
        SCOPED_TRACE(fmt::format("N {} K {} rows {}", n, k, rows));
        const Product product = {&weight, RandomFloats(rows * k, kSeed + 1),
                                 rows};
        ExpectNearReference(product, Multiply(*backend, product));
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(MatMulTest, AddsBiasAndAccumulates) {
  auto backend = MakeBackend(GetParam().level, 2);
  constexpr int64_t kRows = 7;
  constexpr int64_t kN = 37;
  constexpr int64_t kK = 64;
  const RandomMatrix matrix(GetParam().type, kN, kK, kSeed);
  const WeightMatrix weight = Pack(*backend, matrix);
  Product product = {&weight, RandomFloats(kRows * kK, kSeed + 1), kRows};
  product.bias = RandomFloats(kN, kSeed + 2);
  ExpectNearReference(product, Multiply(*backend, product));
  product.initial = RandomFloats(kRows * kN, kSeed + 3);
  ExpectNearReference(product, Multiply(*backend, product));
  product.bias.clear();
  ExpectNearReference(product, Multiply(*backend, product));
}

// One row alone is the standard; it must come out of every batch, chunk and
// thread count unchanged.
TEST_P(MatMulTest, DoesNotDependOnBatchOrThreads) {
  constexpr int64_t kRows = 101;  // several chunks
  constexpr int64_t kN = 200;
  constexpr int64_t kK = 576;
  const RandomMatrix matrix(GetParam().type, kN, kK, kSeed);
  const std::vector<float> x = RandomFloats(kRows * kK, kSeed + 1);
  std::vector<float> expected;
  for (const int num_threads : {1, 2, 4}) {
    auto backend = MakeBackend(GetParam().level, num_threads);
    const WeightMatrix weight = Pack(*backend, matrix);
    if (expected.empty()) {
      for (int64_t t = 0; t < kRows; ++t) {
        const auto out = Multiply(
            *backend,
            {&weight, {x.data() + t * kK, x.data() + (t + 1) * kK}, 1});
        expected.insert(expected.end(), out.begin(), out.end());
      }
    }
    for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 37, 101}) {
      const auto out =
          Multiply(*backend, {&weight, {x.data(), x.data() + rows * kK}, rows});
      EXPECT_EQ(0, std::memcmp(out.data(), expected.data(),
                               out.size() * sizeof(float)))
          << num_threads << " threads, " << rows << " rows";
    }
  }
}

TEST_P(MatMulTest, NonFiniteActivationsSpoilOnlyTheirRow) {
  auto backend = MakeBackend(GetParam().level, 1);
  constexpr int64_t kN = 33;
  constexpr int64_t kK = 96;
  const RandomMatrix matrix(GetParam().type, kN, kK, kSeed);
  const WeightMatrix weight = Pack(*backend, matrix);
  Product product = {&weight, RandomFloats(3 * kK, kSeed + 1), 3};
  const std::vector<float> clean = Multiply(*backend, product);
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    product.x[kK + 40] = bad;
    const std::vector<float> out = Multiply(*backend, product);
    for (int64_t i = 0; i < kN; ++i) {
      EXPECT_EQ(out[i], clean[i]);
      EXPECT_FALSE(std::isfinite(out[kN + i])) << i;
      EXPECT_EQ(out[2 * kN + i], clean[2 * kN + i]);
    }
  }
}

TEST_P(MatMulTest, ExtremeActivationsStayFinite) {
  auto backend = MakeBackend(GetParam().level, 1);
  constexpr int64_t kN = 16;
  constexpr int64_t kK = 64;
  const RandomMatrix matrix(GetParam().type, kN, kK, kSeed);
  const WeightMatrix weight = Pack(*backend, matrix);
  for (const float value :
       {0.0f, -0.0f, 1e-45f, 1e-38f, 1e-31f, 1e-29f, 1e34f, -1e34f}) {
    const Product product = {&weight, std::vector<float>(kK, value), 1};
    for (const float out : Multiply(*backend, product)) {
      EXPECT_TRUE(std::isfinite(out)) << value;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AllLevels, MatMulTest, testing::ValuesIn(AllCases()),
                         CaseName);

// The integer sums are exact and both levels fuse and order the rest alike.
TEST(MatMulLevels, Avx512EqualsAvx2BitByBit) {
  if (DetectCpuLevel() < CpuLevel::kAvx512) {
    GTEST_SKIP() << "this machine has no AVX-512";
  }
  auto avx2 = MakeBackend(CpuLevel::kAvx2, 1);
  auto avx512 = MakeBackend(CpuLevel::kAvx512, 1);
  for (const SourceType type :
       {SourceType::kF32, SourceType::kF16, SourceType::kBF16,
        SourceType::kQ4_1, SourceType::kQ8_0}) {
    const RandomMatrix matrix(type, 50, 576, 7);
    const WeightMatrix weight2 = Pack(*avx2, matrix);
    const WeightMatrix weight512 = Pack(*avx512, matrix);
    for (const int64_t rows : {1, 2, 3, 4, 5, 6, 13}) {
      const std::vector<float> x = RandomFloats(rows * 576, 8);
      EXPECT_EQ(Multiply(*avx2, {&weight2, x, rows}),
                Multiply(*avx512, {&weight512, x, rows}))
          << Name(type) << " rows " << rows;
    }
  }
}

}  // namespace
}  // namespace sentencekv
