// Attention of rows to chosen tokens.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "fmt/format.h"
#include "tests/support/cpu_levels.h"
#include "tests/support/paged_sequences.h"
#include "tests/support/token_choice.h"

namespace sentencekv {
namespace {

class SelectedAttentionTest : public testing::TestWithParam<CpuVariant> {
 protected:
  // Fills rows that nothing is chosen for with 7.
  std::vector<float> Run(const PagedStep& step,
                         const std::vector<TokenChoice>& choices) {
    std::vector<SelectedTokens> selections;
    for (const TokenChoice& choice : choices) {
      selections.push_back(choice.Selection());
    }
    std::vector<float> out;
    const AttentionParams dense = step.Params(out);
    std::fill(out.begin(), out.end(), 7.0f);
    SelectedAttentionParams params;
    params.qkv = dense.qkv;
    params.out = dense.out;
    params.kv = dense.kv;
    params.selections = selections.data();
    params.num_selections = static_cast<int64_t>(selections.size());
    params.num_heads = dense.num_heads;
    params.scale = dense.scale;
    const absl::Status status = backend_->SelectedAttention(params);
    EXPECT_TRUE(status.ok()) << status.ToString();
    EXPECT_TRUE(backend_->Synchronize().ok());
    return out;
  }

  std::unique_ptr<Backend> backend_ = MakeVariant(GetParam());
};

void ExpectNaive(const PagedStep& step, const TokenChoice& choice,
                 const std::vector<float>& out) {
  const AttentionShape& shape = step.shape();
  const int64_t group = shape.num_heads / shape.num_kv_heads;
  for (int64_t h = choice.kv_head * group; h < (choice.kv_head + 1) * group;
       ++h) {
    std::vector<double> scores;
    for (const int64_t p : choice.positions) {
      double score = 0;
      for (int64_t d = 0; d < shape.head_dim; ++d) {
        score += static_cast<double>(step.Query(choice.row, h, d)) *
                 step.Key(choice.sequence, p, choice.kv_head, d);
      }
      scores.push_back(score * step.scale());
    }
    const double maximum = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (double& score : scores) sum += score = std::exp(score - maximum);
    for (int64_t d = 0; d < shape.head_dim; ++d) {
      double expected = 0;
      for (size_t i = 0; i < scores.size(); ++i) {
        expected += scores[i] * step.Value(choice.sequence, choice.positions[i],
                                           choice.kv_head, d);
      }
      ASSERT_NEAR(out[choice.row * step.out_width() + h * shape.head_dim + d],
                  expected / sum, 8e-6 * step.max_value())
          << "head " << h << " element " << d;
    }
  }
}

TEST_P(SelectedAttentionTest, EqualsTheNaiveResult) {
  std::mt19937 random(7);
  for (const int64_t group : {1, 3, 7, 13}) {
    for (const int64_t dim : {8, 40, 64, 128}) {
      for (const DType dtype : {DType::kF16, DType::kF32, DType::kBF16}) {
        if (dtype != DType::kF16 && group != 3) continue;
        SCOPED_TRACE(
            fmt::format("group {} dim {} {}", group, dim, Name(dtype)));
        const PagedStep step({.num_heads = 2 * group,
                              .num_kv_heads = 2,
                              .head_dim = dim,
                              .dtype = dtype},
                             {{399, 1}, {5, 1}, {1, 1}}, 11);
        std::vector<TokenChoice> choices = {
            Choose(step, 0, 0, 0, Runs(400, 60, random)),
            Choose(step, 0, 0, 1, Runs(400, 3, random)),
            Choose(step, 1, 1, 1, {2}), Choose(step, 2, 2, 0, Range(0, 2))};
        const std::vector<float> out = Run(step, choices);
        for (const TokenChoice& choice : choices)
          ExpectNaive(step, choice, out);
      }
    }
  }
}

// All tokens chosen: the bits of Attention. Over several partitions too.
TEST_P(SelectedAttentionTest, AllTokensGiveTheBitsOfAttention) {
  for (const int64_t length : {1, 15, 16, 17, 63, 64, 65, 130, 2500}) {
    SCOPED_TRACE(length);
    const PagedStep step({.num_heads = 6, .num_kv_heads = 2}, {{length - 1, 1}},
                         3);
    std::vector<float> dense;
    ASSERT_TRUE(backend_->Attention(step.Params(dense)).ok());
    ASSERT_TRUE(backend_->Synchronize().ok());
    const std::vector<float> chosen =
        Run(step, {Choose(step, 0, 0, 0, Range(0, length)),
                   Choose(step, 0, 0, 1, Range(0, length))});
    EXPECT_EQ(
        std::memcmp(chosen.data(), dense.data(), dense.size() * sizeof(float)),
        0);
  }
}

// Values that are not chosen may be anything, infinity included.
TEST_P(SelectedAttentionTest, TouchesNoValueThatIsNotChosen) {
  std::mt19937 random(5);
  PagedStep step({.num_heads = 3, .num_kv_heads = 1}, {{199, 1}}, 5);
  const TokenChoice choice = Choose(step, 0, 0, 0, Runs(200, 20, random));
  const std::vector<float> before = Run(step, {choice});
  for (int64_t p = 0; p < 200; ++p) {
    if (std::binary_search(choice.positions.begin(), choice.positions.end(),
                           p)) {
      continue;
    }
    for (int64_t d = 0; d < 64; ++d) {
      step.SetValue(0, p, 0, d, std::numeric_limits<float>::infinity());
    }
  }
  EXPECT_EQ(Run(step, {choice}), before);
}

TEST_P(SelectedAttentionTest, WritesNothingElse) {
  const PagedStep step({.num_heads = 4, .num_kv_heads = 2}, {{30, 1}, {9, 1}},
                       3);
  const std::vector<float> out = Run(step, {Choose(step, 1, 1, 1, {0, 4})});
  const int64_t begin = step.out_width() + 2 * 64;
  for (int64_t i = 0; i < static_cast<int64_t>(out.size()); ++i) {
    EXPECT_EQ(out[i] == 7.0f, i < begin) << i;
  }
  EXPECT_TRUE(backend_->SelectedAttention({}).ok());
}

TEST_P(SelectedAttentionTest, RefusesWhatIsWrong) {
  const PagedStep step({.num_heads = 2, .num_kv_heads = 1}, {{30, 1}}, 3);
  std::vector<float> out;
  const AttentionParams dense = step.Params(out);
  const int32_t page = step.sequences()[0].pages[0];
  const int32_t beyond = static_cast<int32_t>(dense.kv.layout.num_pages);
  const uint16_t mask = 1;
  const uint16_t none = 0;
  const SelectedTokens wrong[] = {
      {-1, 0, &page, &mask, 1},  {0, 1, &page, &mask, 1},
      {0, -1, &page, &mask, 1},  {0, 0, &page, &mask, 0},
      {0, 0, nullptr, &mask, 1}, {0, 0, &page, nullptr, 1},
      {0, 0, &beyond, &mask, 1}, {0, 0, &page, &none, 1}};
  for (const SelectedTokens& selection : wrong) {
    const SelectedAttentionParams params = {.qkv = dense.qkv,
                                            .out = dense.out,
                                            .kv = dense.kv,
                                            .selections = &selection,
                                            .num_selections = 1,
                                            .num_heads = 2,
                                            .scale = 1};
    EXPECT_EQ(backend_->SelectedAttention(params).code(),
              absl::StatusCode::kInvalidArgument);
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, SelectedAttentionTest,
                         testing::ValuesIn(CpuVariants()), CpuVariantName);

}  // namespace
}  // namespace sentencekv
