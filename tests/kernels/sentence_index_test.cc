// Entries of sentences, and their scores.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "fmt/format.h"
#include "kernels/sentence_block.h"
#include "tests/support/cpu_levels.h"
#include "tests/support/paged_sequences.h"

namespace sentencekv {
namespace {

struct Range {
  int64_t begin;
  int64_t end;
};

// Element d of an entry.
float Element(const std::byte* blocks, int64_t head_dim, int64_t entry,
              int64_t d) {
  const std::byte* block =
      blocks + entry / kBlockEntries * SentenceBlockBytes(head_dim);
  const int64_t slot = entry % kBlockEntries;
  float unit;
  std::memcpy(&unit, block + head_dim * kBlockEntries + slot * 4, 4);
  return static_cast<float>(
             static_cast<int8_t>(block[d * kBlockEntries + slot])) *
         unit;
}

class SentenceIndexTest : public testing::TestWithParam<CpuVariant> {
 protected:
  std::unique_ptr<Backend> backend_ = MakeVariant(GetParam());
};

TEST_P(SentenceIndexTest, EntriesAreMeansOfKeys) {
  for (const DType dtype : {DType::kF16, DType::kF32, DType::kBF16}) {
    for (const int64_t dim : {8, 40, 64, 128}) {
      SCOPED_TRACE(fmt::format("{} {}", Name(dtype), dim));
      const PagedStep step(
          {.num_heads = 4, .num_kv_heads = 2, .head_dim = dim, .dtype = dtype},
          {{699, 1}}, 5);
      std::vector<Range> ranges;
      for (int64_t p = 0; p < 700;) {
        const int64_t end = std::min<int64_t>(700, p + 1 + p * 7 % 40);
        ranges.push_back({p, end});
        p = end;
      }
      const auto count = static_cast<int64_t>(ranges.size());
      const int64_t head_bytes =
          SentenceBlocks(count) * SentenceBlockBytes(dim);
      std::vector<std::byte> blocks(2 * head_bytes);
      std::vector<SentenceIndexItem> items;
      for (int64_t i = 0; i < count; ++i) {
        items.push_back({step.sequences()[0].pages, ranges[i].begin,
                         ranges[i].end, i, blocks.data(), head_bytes});
      }
      ASSERT_TRUE(backend_
                      ->IndexSentences({.kv = step.view(),
                                        .items = items.data(),
                                        .num_items = count})
                      .ok());
      for (int64_t g = 0; g < 2; ++g) {
        for (int64_t i = 0; i < count; ++i) {
          double highest = 0;
          std::vector<double> means(dim);
          for (int64_t d = 0; d < dim; ++d) {
            for (int64_t p = ranges[i].begin; p < ranges[i].end; ++p) {
              means[d] += step.Key(0, p, g, d);
            }
            means[d] /= static_cast<double>(ranges[i].end - ranges[i].begin);
            highest = std::max(highest, std::fabs(means[d]));
          }
          for (int64_t d = 0; d < dim; ++d) {
            ASSERT_NEAR(Element(blocks.data() + g * head_bytes, dim, i, d),
                        means[d], highest * 0.501 / 127)
                << "head " << g << " sentence " << i << " element " << d;
          }
        }
      }
    }
  }
}

TEST_P(SentenceIndexTest, ScoresAreSumsOfSoftmaxes) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::uniform_int_distribution<int> byte(-127, 127);
  for (const int64_t heads : {1, 3, 4, 5, 8}) {
    for (const int64_t count : {1, 15, 16, 17, 100, 1000}) {
      SCOPED_TRACE(fmt::format("{} heads, {} entries", heads, count));
      const int64_t dim = 40;
      std::vector<std::byte> blocks(SentenceBlocks(count) *
                                    SentenceBlockBytes(dim));
      for (int64_t b = 0; b < SentenceBlocks(count); ++b) {
        std::byte* block = blocks.data() + b * SentenceBlockBytes(dim);
        for (int64_t i = 0; i < dim * kBlockEntries; ++i) {
          block[i] = static_cast<std::byte>(byte(random));
        }
        for (int64_t i = 0; i < kBlockEntries; ++i) {
          const float unit = 0.01f * std::fabs(normal(random));
          std::memcpy(block + dim * kBlockEntries + i * 4, &unit, 4);
        }
      }
      std::vector<float> q(heads * dim);
      for (float& x : q) x = normal(random);
      std::vector<float> prior(count);
      for (float& x : prior) x = std::fabs(normal(random));
      std::vector<double> expected(prior.begin(), prior.end());
      for (int64_t h = 0; h < heads; ++h) {
        std::vector<double> weights(count);
        double sum = 0;
        for (int64_t e = 0; e < count; ++e) {
          double score = 0;
          for (int64_t d = 0; d < dim; ++d) {
            score += q[h * dim + d] * Element(blocks.data(), dim, e, d);
          }
          sum += weights[e] = std::exp(score * 0.3);
        }
        for (int64_t e = 0; e < count; ++e) expected[e] += weights[e] / sum;
      }
      std::vector<float> scores(count, -1.0f);
      std::vector<SentenceScoreItem> items(
          2, {q.data(), blocks.data(), count, prior.data(), scores.data()});
      std::vector<float> plain(count);
      items[1].prior = nullptr;
      items[1].scores = plain.data();
      ASSERT_TRUE(backend_
                      ->ScoreSentences({.items = items.data(),
                                        .num_items = 2,
                                        .num_heads = heads,
                                        .head_dim = dim,
                                        .scale = 0.3f})
                      .ok());
      for (int64_t e = 0; e < count; ++e) {
        ASSERT_NEAR(scores[e], expected[e], 1e-5 * (1 + expected[e])) << e;
        ASSERT_NEAR(plain[e], expected[e] - prior[e], 1e-5) << e;
      }
    }
  }
}

TEST_P(SentenceIndexTest, RefusesWhatIsWrong) {
  EXPECT_TRUE(backend_->IndexSentences({}).ok());
  EXPECT_TRUE(backend_->ScoreSentences({}).ok());
  const PagedStep step({.num_heads = 1, .num_kv_heads = 1}, {{30, 1}}, 5);
  std::vector<std::byte> blocks(SentenceBlockBytes(64));
  const int32_t* pages = step.sequences()[0].pages;
  const auto beyond = static_cast<int32_t>(step.view().layout.num_pages);
  const SentenceIndexItem wrong[] = {
      {nullptr, 0, 5, 0, blocks.data(), 0},
      {pages, 0, 5, 0, nullptr, 0},
      {pages, 5, 5, 0, blocks.data(), 0},
      {pages, -1, 5, 0, blocks.data(), 0},
      {pages, 0, 5, -1, blocks.data(), 0},
      {&beyond, 0, 5, 0, blocks.data(), 0},
  };
  for (const SentenceIndexItem& item : wrong) {
    EXPECT_EQ(backend_
                  ->IndexSentences(
                      {.kv = step.view(), .items = &item, .num_items = 1})
                  .code(),
              absl::StatusCode::kInvalidArgument);
  }
  float value = 0;
  const SentenceScoreItem no_entry = {&value, blocks.data(), 0, nullptr,
                                      &value};
  EXPECT_EQ(backend_
                ->ScoreSentences({.items = &no_entry,
                                  .num_items = 1,
                                  .num_heads = 1,
                                  .head_dim = 1})
                .code(),
            absl::StatusCode::kInvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(Cpu, SentenceIndexTest,
                         testing::ValuesIn(CpuVariants()), CpuVariantName);

}  // namespace
}  // namespace sentencekv
