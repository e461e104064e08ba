// What policies ask of keys: the attention they get, and their values.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "fmt/format.h"
#include "tests/support/cpu_levels.h"
#include "tests/support/paged_sequences.h"

namespace sentencekv {
namespace {

// The rows of a step's only sequence as queries, [rows, H, D].
std::vector<float> Queries(const PagedStep& step) {
  const AttentionShape& shape = step.shape();
  std::vector<float> queries;
  for (int64_t row = 0; row < step.num_rows(); ++row) {
    for (int64_t head = 0; head < shape.num_heads; ++head) {
      for (int64_t d = 0; d < shape.head_dim; ++d) {
        queries.push_back(step.Query(row, head, d));
      }
    }
  }
  return queries;
}

int64_t NumKeys(const PagedStep& step) {
  return step.sequences()[0].position + step.num_rows();
}

// Of one query head, by definition.
std::vector<double> NaiveMass(const PagedStep& step, int64_t head) {
  const AttentionShape& shape = step.shape();
  const int64_t kv_head = head / (shape.num_heads / shape.num_kv_heads);
  std::vector<double> mass(static_cast<size_t>(NumKeys(step)));
  for (int64_t row = 0; row < step.num_rows(); ++row) {
    std::vector<double> weights;
    for (int64_t p = 0; p <= step.sequences()[0].position + row; ++p) {
      double score = 0;
      for (int64_t d = 0; d < shape.head_dim; ++d) {
        score += static_cast<double>(step.Query(row, head, d)) *
                 step.Key(0, p, kv_head, d);
      }
      weights.push_back(score * step.scale());
    }
    const double maximum = *std::max_element(weights.begin(), weights.end());
    double sum = 0;
    for (double& weight : weights) sum += weight = std::exp(weight - maximum);
    for (size_t p = 0; p < weights.size(); ++p) mass[p] += weights[p] / sum;
  }
  return mass;
}

class AttentionMassTest : public testing::TestWithParam<CpuVariant> {
 protected:
  std::vector<float> Run(const PagedStep& step) {
    const std::vector<float> queries = Queries(step);
    std::vector<float> out(
        static_cast<size_t>(step.shape().num_heads * NumKeys(step)), NAN);
    AttentionMassParams params;
    params.queries = queries.data();
    params.num_queries = step.num_rows();
    params.first_position = step.sequences()[0].position;
    params.kv = step.view();
    params.pages = step.sequences()[0].pages;
    params.num_heads = step.shape().num_heads;
    params.scale = step.scale();
    params.out = out.data();
    const absl::Status status = backend_->AttentionMass(params);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return out;
  }

  void ExpectNaive(const PagedStep& step) {
    const std::vector<float> out = Run(step);
    const auto num_keys = static_cast<size_t>(NumKeys(step));
    for (int64_t head = 0; head < step.shape().num_heads; ++head) {
      const std::vector<double> expected = NaiveMass(step, head);
      for (size_t p = 0; p < num_keys; ++p) {
        // Written so that NaN fails.
        const double actual = out[static_cast<size_t>(head) * num_keys + p];
        ASSERT_TRUE(std::fabs(actual - expected[p]) <=
                    1e-7 + 2e-5 * expected[p])
            << "head " << head << " key " << p << ": " << actual << " for "
            << expected[p];
      }
    }
  }

  std::unique_ptr<Backend> backend_ = MakeVariant(GetParam());
};

// The pool is NaN wherever no token is.
TEST_P(AttentionMassTest, EqualsTheNaiveResult) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const StepRows& rows :
         {StepRows{0, 1}, {0, 17}, {15, 1}, {16, 1}, {31, 32}, {300, 32}}) {
      for (const int64_t dim : {8, 40, 128}) {
        SCOPED_TRACE(fmt::format("{} {}+{} dim {}", Name(dtype), rows.position,
                                 rows.num_rows, dim));
        ExpectNaive(PagedStep({.num_heads = 6,
                               .num_kv_heads = 2,
                               .head_dim = dim,
                               .dtype = dtype},
                              {rows}, 5));
      }
    }
  }
}

TEST_P(AttentionMassTest, TakesEveryGroup) {
  for (const int64_t group : {1, 2, 7, 13}) {
    ExpectNaive(
        PagedStep({.num_heads = 3 * group, .num_kv_heads = 3}, {{70, 32}}, 6));
  }
}

TEST_P(AttentionMassTest, KeepsItsPrecisionWithPeakedScores) {
  ExpectNaive(PagedStep({.num_heads = 2, .num_kv_heads = 1, .head_dim = 8},
                        {{500, 32}}, 7, 4.0f));
}

// So long that keys are converted for a few queries at a time.
TEST_P(AttentionMassTest, TakesLongSequences) {
  const PagedStep step({.num_heads = 1, .num_kv_heads = 1, .head_dim = 8},
                       {{70000, 32}}, 8);
  ExpectNaive(step);
}

INSTANTIATE_TEST_SUITE_P(Cpu, AttentionMassTest,
                         testing::ValuesIn(CpuVariants()), CpuVariantName);

TEST(ReadKeys, GivesWhatThePoolHolds) {
  const auto backend = MakeCpuBackend({.num_threads = 1}).value();
  const std::vector<int32_t> positions = {0, 15, 16, 39, 17, 0};
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const PagedStep step(
        {.num_heads = 2, .num_kv_heads = 2, .head_dim = 24, .dtype = dtype},
        {{39, 1}}, 9);
    for (int64_t head = 0; head < 2; ++head) {
      std::vector<float> out(positions.size() * 24, NAN);
      ASSERT_TRUE(backend
                      ->ReadKeys({.kv = step.view(),
                                  .kv_head = head,
                                  .pages = step.sequences()[0].pages,
                                  .positions = positions.data(),
                                  .num_positions = std::ssize(positions),
                                  .out = out.data()})
                      .ok());
      for (size_t i = 0; i < out.size(); ++i) {
        ASSERT_EQ(out[i], step.Key(0, positions[i / 24], head,
                                   static_cast<int64_t>(i % 24)))
            << Name(dtype) << " " << i;
      }
    }
  }
}

}  // namespace
}  // namespace sentencekv
