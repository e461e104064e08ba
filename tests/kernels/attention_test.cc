#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "fmt/format.h"
#include "tests/support/cpu_levels.h"
#include "tests/support/paged_sequences.h"

namespace sentencekv {
namespace {

constexpr uint32_t kSeed = 20240611;

class AttentionTest : public testing::TestWithParam<CpuVariant> {
 protected:
  std::vector<float> Run(const PagedStep& step) {
    std::vector<float> out;
    const absl::Status status = backend_->Attention(step.Params(out));
    EXPECT_TRUE(status.ok()) << status.ToString();
    EXPECT_TRUE(backend_->Synchronize().ok());
    return out;
  }

  // The reference reads the rounded K and V, so what is left is f32 arithmetic:
  // a score of D products and a relative error of 2e-7 in the exponential move
  // the weights by some 1e-6 of themselves, and each output is a mean of values
  // with those weights.
  void ExpectNaive(const PagedStep& step, double tolerance = 4e-6) {
    const std::vector<float> out = Run(step);
    const std::vector<double> expected = step.Expected();
    const double bound = tolerance * step.max_value();
    for (size_t i = 0; i < out.size(); ++i) {
      // Written so that NaN fails.
      ASSERT_TRUE(std::fabs(out[i] - expected[i]) <= bound)
          << "element " << i << ": " << out[i] << " for " << expected[i]
          << ", seed " << kSeed;
    }
  }

  std::unique_ptr<Backend> backend_ = MakeVariant(GetParam());
};

constexpr int64_t kLengths[] = {1, 3, 7, 16, 17, 37, 64, 65, 200, 1000};
constexpr DType kDTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

TEST_P(AttentionTest, DecodesAtEveryLength) {
  for (const DType dtype : kDTypes) {
    for (const int64_t length : kLengths) {
      SCOPED_TRACE(fmt::format("{} length {}", Name(dtype), length));
      ExpectNaive(PagedStep({.num_heads = 6, .num_kv_heads = 2, .dtype = dtype},
                            {{length - 1, 1}}, kSeed));
    }
  }
}

TEST_P(AttentionTest, PrefillsAtEveryLength) {
  for (const DType dtype : kDTypes) {
    for (const int64_t length : kLengths) {
      if (length == 1000) continue;  // the naive result takes too long
      SCOPED_TRACE(fmt::format("{} length {}", Name(dtype), length));
      ExpectNaive(PagedStep({.num_heads = 3, .num_kv_heads = 1, .dtype = dtype},
                            {{0, length}}, kSeed));
    }
  }
}

TEST_P(AttentionTest, TakesEveryGroupAndHeadSize) {
  constexpr int64_t kGroups[] = {1, 3, 4, 5, 8, 13};
  constexpr int64_t kHeadDims[] = {8, 16, 24, 40, 64, 72, 80, 96, 128, 256};
  for (const int64_t group : kGroups) {
    for (const int64_t dim : kHeadDims) {
      for (const DType dtype : kDTypes) {
        // The types differ in loading only: a few groups show it.
        if (dtype != DType::kF16 && group != 3 && group != 8) continue;
        SCOPED_TRACE(
            fmt::format("group {} dim {} {}", group, dim, Name(dtype)));
        const AttentionShape shape = {.num_heads = 2 * group,
                                      .num_kv_heads = 2,
                                      .head_dim = dim,
                                      .dtype = dtype};
        ExpectNaive(PagedStep(shape, {{69, 1}, {0, 1}, {30, 19}}, kSeed));
      }
    }
  }
}

TEST_P(AttentionTest, TakesRaggedBatches) {
  const AttentionShape shape = {.num_heads = 9, .num_kv_heads = 3};
  ExpectNaive(PagedStep(
      shape,
      {{0, 1}, {15, 1}, {16, 1}, {0, 37}, {63, 2}, {999, 1}, {100, 65}, {7, 7}},
      kSeed));
}

TEST_P(AttentionTest, CrossesPartitions) {
  for (const int64_t position : {1022, 1023, 1024, 2047, 2500}) {
    SCOPED_TRACE(position);
    const AttentionShape shape = {.num_heads = 3, .num_kv_heads = 1};
    ExpectNaive(PagedStep(shape, {{position, 1}}, kSeed));
    ExpectNaive(PagedStep(shape, {{position, 5}}, kSeed));
    ExpectNaive(PagedStep(shape, {{position, 20}}, kSeed));
  }
}

TEST_P(AttentionTest, KeepsItsPrecisionWithPeakedScores) {
  // Scores of several hundred: one key takes all the weight, and the running
  // maximum moves again and again. A score's error is 1e-7 of its size, and so
  // is the weights', relative.
  ExpectNaive(PagedStep({.num_heads = 3, .num_kv_heads = 1},
                        {{500, 1}, {0, 100}}, kSeed, 6.0f),
              1e-3);
}

TEST_P(AttentionTest, NoValueOfALaterTokenLeaks) {
  // Infinities at positions that most rows must not see.
  const AttentionShape shape = {.num_heads = 3, .num_kv_heads = 1};
  PagedStep clean(shape, {{40, 30}}, kSeed);
  const std::vector<float> expected = Run(clean);
  PagedStep dirty(shape, {{40, 30}}, kSeed);
  constexpr int64_t kBadRow = 13;
  for (int64_t d = 0; d < 64; ++d) {
    dirty.SetValue(0, 40 + kBadRow, 0, d,
                   std::numeric_limits<float>::infinity());
  }
  const std::vector<float> out = Run(dirty);
  const auto before = static_cast<size_t>(kBadRow * clean.out_width());
  EXPECT_EQ(std::memcmp(out.data(), expected.data(), before * sizeof(float)),
            0);
  for (size_t i = before; i < out.size(); ++i) {
    EXPECT_FALSE(std::isfinite(out[i])) << i;
  }
}

TEST_P(AttentionTest, UniformScoresGiveTheMean) {
  PagedStep step({.num_heads = 1, .num_kv_heads = 1, .dtype = DType::kF32},
                 {{2999, 1}}, kSeed);
  std::vector<float> out;
  AttentionParams params = step.Params(out);
  params.scale = 0;
  ASSERT_TRUE(backend_->Attention(params).ok());
  ASSERT_TRUE(backend_->Synchronize().ok());
  for (int64_t d = 0; d < 64; ++d) {
    double mean = 0;
    for (int64_t p = 0; p < 3000; ++p) mean += step.Value(0, p, 0, d) / 3000.0;
    EXPECT_NEAR(out[d], mean, 2e-6) << d;
  }
}

TEST_P(AttentionTest, AnEmptyStepDoesNothing) {
  EXPECT_TRUE(backend_->Attention({}).ok());
}

TEST_P(AttentionTest, RefusesHeadSizesItIsNotMadeFor) {
  for (const int64_t dim : {0, 4, 12, 65, 264}) {
    PagedStep step({}, {{0, 1}}, kSeed);
    std::vector<float> out;
    AttentionParams params = step.Params(out);
    params.kv.layout.head_dim = dim;
    EXPECT_EQ(backend_->Attention(params).code(),
              absl::StatusCode::kInvalidArgument)
        << dim;
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, AttentionTest, testing::ValuesIn(CpuVariants()),
                         CpuVariantName);

}  // namespace
}  // namespace sentencekv
