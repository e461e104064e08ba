// Entries of sentences, and their scores.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <span>
#include <vector>

#include "fmt/format.h"
#include "kernels/score_bins.h"
#include "kernels/sentence_block.h"
#include "tests/support/cpu_levels.h"
#include "tests/support/paged_sequences.h"

namespace sentencekv {
namespace {

constexpr SentenceIndexKind kKinds[] = {SentenceIndexKind::kMean,
                                        SentenceIndexKind::kMinMax,
                                        SentenceIndexKind::kSign};

// An index of one KV head, or of several.
struct Index {
  Index(SentenceIndexKind kind, int64_t dim, int64_t num_heads,
        std::vector<int32_t> ends)
      : kind(kind), dim(dim), ends(std::move(ends)) {
    head_bytes = SentenceBlocks(count()) * SentenceBlockBytes(kind, dim);
    sign_bytes = (this->ends.back() + kPageTokens - 1) / kPageTokens *
                 SignStripBytes(dim);
    blocks.resize(num_heads * head_bytes);
    signs.resize(num_heads * sign_bytes);
  }

  int64_t count() const { return static_cast<int64_t>(ends.size()); }
  int64_t begin(int64_t entry) const {
    return entry == 0 ? 0 : ends[entry - 1];
  }
  SentenceIndexItem Item(const int32_t* pages, int64_t entry) {
    return {.kind = kind,
            .pages = pages,
            .begin = begin(entry),
            .end = ends[entry],
            .entry = entry,
            .blocks = blocks.data(),
            .head_stride = head_bytes,
            .signs = signs.data(),
            .sign_stride = sign_bytes};
  }
  // Where one of an entry's vectors begins.
  const std::byte* VectorOf(int64_t head, int64_t entry, int64_t vector) const {
    return blocks.data() + head * head_bytes +
           entry / kBlockEntries * SentenceBlockBytes(kind, dim) +
           vector * SentenceVectorBytes(dim);
  }
  float Unit(int64_t head, int64_t entry, int64_t vector) const {
    float unit;
    std::memcpy(&unit,
                VectorOf(head, entry, vector) + dim * kBlockEntries +
                    entry % kBlockEntries * 4,
                4);
    return unit;
  }
  // Element d of one of an entry's vectors.
  float Element(int64_t head, int64_t entry, int64_t vector, int64_t d) const {
    const std::byte* const from = VectorOf(head, entry, vector);
    const int64_t slot = entry % kBlockEntries;
    const float unit = Unit(head, entry, vector);
    const bool by_entry = kind == SentenceIndexKind::kSign && vector == 1;
    return static_cast<float>(static_cast<int8_t>(
               from[by_entry ? slot * dim + d : d * kBlockEntries + slot])) *
           unit;
  }
  bool Sign(int64_t head, int64_t position, int64_t d) const {
    uint16_t bits;
    std::memcpy(&bits,
                signs.data() + head * sign_bytes +
                    position / kPageTokens * SignStripBytes(dim) + d * 2,
                2);
    return (bits >> (position % kPageTokens) & 1) != 0;
  }
  // By definition, from what is stored. `signs`: of kSign, whether they are
  // looked at.
  double Score(const float* q, int64_t entry, double scale,
               bool signs = true) const {
    double score = 0;
    for (int64_t d = 0; d < dim; ++d) {
      score += q[d] * Element(0, entry, 0, d);
      if (kind == SentenceIndexKind::kMinMax) {
        score += std::fabs(q[d]) * Element(0, entry, 1, d);
      }
    }
    if (kind != SentenceIndexKind::kSign) return score * scale;
    if (!signs) return score * scale + std::log(ends[entry] - begin(entry));
    float most = 0;
    for (int64_t d = 0; d < dim; ++d) most = std::max(most, std::fabs(q[d]));
    const float unit = Unit(0, entry, 1);
    double sum = 0;
    for (int64_t p = begin(entry); p < ends[entry]; ++p) {
      double token = 0;
      for (int64_t d = 0; d < dim; ++d) {
        const double rounded = std::rint(q[d] * (32767.0f / most));
        const double deviation =
            unit == 0 ? 0 : std::rint(Element(0, entry, 1, d) / unit);
        const double weight = std::floor(rounded * deviation / 32768 + 0.5);
        token += weight * unit * (most / 32767.0 * 32768.0) *
                 (Sign(0, p, d) ? 1 : -1);
      }
      sum += std::exp(token * scale);
    }
    return score * scale + std::log(sum);
  }

  SentenceIndexKind kind;
  int64_t dim;
  std::vector<int32_t> ends;
  int64_t head_bytes = 0;
  int64_t sign_bytes = 0;
  std::vector<std::byte> blocks;
  std::vector<std::byte> signs;
};

// Sentences of all sorts of lengths, up to num_tokens.
std::vector<int32_t> SomeEnds(int32_t num_tokens) {
  std::vector<int32_t> ends;
  for (int32_t p = 0; p < num_tokens;) {
    p = std::min(num_tokens, p + 1 + p * 7 % 40);
    ends.push_back(p);
  }
  return ends;
}

class SentenceIndexTest : public testing::TestWithParam<CpuVariant> {
 protected:
  // Entries of positions 0..699 of a random sequence.
  Index Build(const PagedStep& step, SentenceIndexKind kind) {
    Index index(kind, step.shape().head_dim, step.shape().num_kv_heads,
                SomeEnds(700));
    std::vector<SentenceIndexItem> items;
    for (int64_t i = 0; i < index.count(); ++i) {
      items.push_back(index.Item(step.sequences()[0].pages, i));
    }
    EXPECT_TRUE(backend_
                    ->IndexSentences({.kv = step.view(),
                                      .items = items.data(),
                                      .num_items = index.count()})
                    .ok());
    return index;
  }

  absl::Status Score(std::span<const SentenceScoreItem> items, int64_t heads,
                     int64_t dim) {
    return backend_->ScoreSentences({.items = items.data(),
                                     .num_items = std::ssize(items),
                                     .num_heads = heads,
                                     .head_dim = dim,
                                     .scale = 0.3f});
  }

  std::unique_ptr<Backend> backend_ = MakeVariant(GetParam());
};

// Compares vectors of entries with what they should be, within 8 bits.
void ExpectVector(const Index& index, int64_t head, int64_t entry,
                  int64_t vector, const std::vector<double>& expected) {
  double highest = 0;
  for (const double x : expected) highest = std::max(highest, std::fabs(x));
  for (int64_t d = 0; d < index.dim; ++d) {
    ASSERT_NEAR(index.Element(head, entry, vector, d), expected[d],
                highest * 0.501 / 127)
        << "head " << head << " sentence " << entry << " vector " << vector
        << " element " << d;
  }
}

// The pool is NaN wherever no token is.
TEST_P(SentenceIndexTest, EntriesAreMadeOfTheirKeys) {
  for (const DType dtype : {DType::kF16, DType::kF32, DType::kBF16}) {
    for (const int64_t dim : {8, 40, 64, 128}) {
      const PagedStep step(
          {.num_heads = 4, .num_kv_heads = 2, .head_dim = dim, .dtype = dtype},
          {{699, 1}}, 5);
      for (const SentenceIndexKind kind : kKinds) {
        SCOPED_TRACE(fmt::format("{} {} kind {}", Name(dtype), dim,
                                 static_cast<int>(kind)));
        const Index index = Build(step, kind);
        for (int64_t g = 0; g < 2; ++g) {
          for (int64_t i = 0; i < index.count(); ++i) {
            const auto length =
                static_cast<double>(index.ends[i] - index.begin(i));
            std::vector<double> mean(dim), deviation(dim), middle(dim),
                half(dim);
            for (int64_t d = 0; d < dim; ++d) {
              double low = INFINITY;
              double high = -INFINITY;
              for (int64_t p = index.begin(i); p < index.ends[i]; ++p) {
                const double key = step.Key(0, p, g, d);
                mean[d] += key / length;
                low = std::min(low, key);
                high = std::max(high, key);
              }
              middle[d] = (low + high) / 2;
              half[d] = (high - low) / 2;
              for (int64_t p = index.begin(i); p < index.ends[i]; ++p) {
                const double off = step.Key(0, p, g, d) - mean[d];
                deviation[d] += std::fabs(off) / length;
                if (kind != SentenceIndexKind::kSign) continue;
                // A key at the mean may fall on either side.
                if (std::fabs(off) < 1e-5) continue;
                ASSERT_EQ(index.Sign(g, p, d), off > 0) << p << " " << d;
              }
            }
            const bool box = kind == SentenceIndexKind::kMinMax;
            ExpectVector(index, g, i, 0, box ? middle : mean);
            if (box) ExpectVector(index, g, i, 1, half);
            if (kind == SentenceIndexKind::kSign) {
              ExpectVector(index, g, i, 1, deviation);
            }
          }
        }
      }
    }
  }
}

TEST_P(SentenceIndexTest, ScoresAreSumsOfSoftmaxes) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  const int64_t dim = 40;
  const PagedStep step({.num_heads = 1, .num_kv_heads = 1, .head_dim = dim},
                       {{699, 1}}, 5);
  for (const SentenceIndexKind kind : kKinds) {
    const Index whole = Build(step, kind);
    for (const int64_t heads : {1, 3, 4, 5, 8}) {
      for (const int64_t count :
           {int64_t{1}, int64_t{15}, int64_t{16}, int64_t{17}, whole.count()}) {
        SCOPED_TRACE(fmt::format("kind {}, {} heads, {} entries",
                                 static_cast<int>(kind), heads, count));
        std::vector<float> q(heads * dim);
        for (float& x : q) x = normal(random);
        std::vector<float> prior(count);
        for (float& x : prior) x = std::fabs(normal(random));
        std::vector<double> expected(prior.begin(), prior.end());
        for (int64_t h = 0; h < heads; ++h) {
          std::vector<double> weights(count);
          double sum = 0;
          for (int64_t e = 0; e < count; ++e) {
            weights[e] = std::exp(whole.Score(&q[h * dim], e, 0.3));
            sum += weights[e];
          }
          for (int64_t e = 0; e < count; ++e) expected[e] += weights[e] / sum;
        }
        std::vector<float> scores(count, -1.0f);
        SentenceScoreItem item = {.kind = kind,
                                  .q = q.data(),
                                  .blocks = whole.blocks.data(),
                                  .num_entries = count,
                                  .prior = prior.data(),
                                  .scores = scores.data(),
                                  .signs = whole.signs.data(),
                                  .ends = whole.ends.data()};
        std::vector<SentenceScoreItem> items(2, item);
        std::vector<float> plain(count);
        items[1].prior_weight = 0;
        items[1].scores = plain.data();
        ASSERT_TRUE(Score(items, heads, dim).ok());
        for (int64_t e = 0; e < count; ++e) {
          ASSERT_NEAR(scores[e], expected[e], 2e-5 * (1 + expected[e])) << e;
          ASSERT_NEAR(plain[e], expected[e] - prior[e], 2e-5) << e;
        }
      }
    }
  }
}

// What softmax gives the entries of one head, if the signs of some are looked
// at.
std::vector<double> Shares(const Index& index, const float* q, double scale,
                           const std::vector<bool>& refined) {
  std::vector<double> shares(index.count());
  double sum = 0;
  for (int64_t e = 0; e < index.count(); ++e) {
    shares[e] = std::exp(index.Score(q, e, scale, refined[e]));
    sum += shares[e];
  }
  for (double& share : shares) share /= sum;
  return shares;
}

TEST_P(SentenceIndexTest, SignsOfTheBestAreLookedAt) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  const int64_t dim = 64;
  const PagedStep step({.num_heads = 1, .num_kv_heads = 1, .head_dim = dim},
                       {{699, 1}}, 5);
  const Index index = Build(step, SentenceIndexKind::kSign);
  const auto count = static_cast<size_t>(index.count());
  for (const int64_t num_refined : {1, 100, 350, 5000}) {
    SCOPED_TRACE(num_refined);
    std::vector<float> q(2 * dim);
    for (float& x : q) x = normal(random);
    std::vector<float> prior(count);
    for (float& x : prior) x = 0.1f * std::fabs(normal(random));
    std::vector<double> coarse(prior.begin(), prior.end());
    for (int64_t h = 0; h < 2; ++h) {
      const std::vector<double> shares =
          Shares(index, &q[h * dim], 0.3, std::vector<bool>(count, false));
      for (size_t e = 0; e < count; ++e) coarse[e] += shares[e];
    }
    std::map<uint32_t, int64_t, std::greater<>> bins;  // tokens of each
    for (size_t e = 0; e < count; ++e) {
      bins[ScoreBin(static_cast<float>(coarse[e]))] +=
          index.ends[e] - index.begin(static_cast<int64_t>(e));
    }
    uint32_t lowest = 0;
    int64_t tokens = 0;
    for (const auto& [bin, bin_tokens] : bins) {
      lowest = bin;
      if ((tokens += bin_tokens) >= num_refined) break;
    }
    std::vector<bool> refined(count);
    for (size_t e = 0; e < count; ++e) {
      refined[e] = ScoreBin(static_cast<float>(coarse[e])) >= lowest;
    }
    std::vector<double> expected(prior.begin(), prior.end());
    for (int64_t h = 0; h < 2; ++h) {
      const std::vector<double> shares =
          Shares(index, &q[h * dim], 0.3, refined);
      for (size_t e = 0; e < count; ++e) expected[e] += shares[e];
    }
    std::vector<float> scores(count);
    const SentenceScoreItem item = {.kind = SentenceIndexKind::kSign,
                                    .q = q.data(),
                                    .blocks = index.blocks.data(),
                                    .num_entries = index.count(),
                                    .prior = prior.data(),
                                    .scores = scores.data(),
                                    .signs = index.signs.data(),
                                    .ends = index.ends.data(),
                                    .num_refined = num_refined};
    ASSERT_TRUE(Score({&item, 1}, 2, dim).ok());
    for (size_t e = 0; e < count; ++e) {
      ASSERT_NEAR(scores[e], expected[e], 2e-5 * (1 + expected[e])) << e;
    }
  }
}

TEST_P(SentenceIndexTest, QueriesAreBlended) {
  const int64_t dim = 8;
  const PagedStep step({.num_heads = 1, .num_kv_heads = 1, .head_dim = dim},
                       {{699, 1}}, 5);
  const Index index = Build(step, SentenceIndexKind::kMean);
  std::mt19937 random(4);
  std::normal_distribution<float> normal;
  const auto score = [&](SentenceScoreItem item, const std::vector<float>& q) {
    std::vector<float> scores(index.count());
    item.q = q.data();
    item.blocks = index.blocks.data();
    item.num_entries = index.count();
    item.scores = scores.data();
    EXPECT_TRUE(Score({&item, 1}, 2, dim).ok());
    return scores;
  };
  // What lies there from an earlier sentence does not count.
  std::vector<float> sum(2 * dim, 1e9f);
  std::vector<double> total(2 * dim);
  for (int64_t i = 0; i < 4; ++i) {
    std::vector<float> q(2 * dim);
    for (float& x : q) x = normal(random);
    std::vector<float> blended(2 * dim);
    for (int64_t d = 0; d < 2 * dim; ++d) {
      total[d] += q[d];
      blended[d] =
          static_cast<float>(0.25 * q[d] + 0.75 * total[d] / double(i + 1));
    }
    const std::vector<float> scores =
        score({.query_sum = sum.data(), .num_summed = i, .blend = 0.75f}, q);
    const std::vector<float> expected = score({}, blended);
    for (size_t e = 0; e < scores.size(); ++e) {
      ASSERT_NEAR(scores[e], expected[e], 1e-5) << i << " " << e;
    }
  }
}

TEST_P(SentenceIndexTest, RefusesWhatIsWrong) {
  EXPECT_TRUE(backend_->IndexSentences({}).ok());
  EXPECT_TRUE(backend_->ScoreSentences({}).ok());
  const PagedStep step({.num_heads = 1, .num_kv_heads = 1}, {{30, 1}}, 5);
  Index index(SentenceIndexKind::kSign, 64, 1, {5});
  const int32_t* pages = step.sequences()[0].pages;
  const auto beyond = static_cast<int32_t>(step.view().layout.num_pages);
  using Item = SentenceIndexItem;
  const auto refused_item = [&](void (*spoil)(Item & item, const int32_t* x)) {
    Item item = index.Item(pages, 0);
    spoil(item, &beyond);
    return backend_
               ->IndexSentences(
                   {.kv = step.view(), .items = &item, .num_items = 1})
               .code() == absl::StatusCode::kInvalidArgument;
  };
  EXPECT_FALSE(refused_item([](Item&, const int32_t*) {}));
  EXPECT_TRUE(refused_item([](Item& i, auto) { i.pages = nullptr; }));
  EXPECT_TRUE(refused_item([](Item& i, auto x) { i.pages = x; }));
  EXPECT_TRUE(refused_item([](Item& i, auto) { i.blocks = nullptr; }));
  EXPECT_TRUE(refused_item([](Item& i, auto) { i.signs = nullptr; }));
  EXPECT_TRUE(refused_item([](Item& i, auto) { i.begin = i.end; }));
  EXPECT_TRUE(refused_item([](Item& i, auto) { i.begin = -1; }));
  EXPECT_TRUE(refused_item([](Item& i, auto) { i.entry = -1; }));
  EXPECT_TRUE(refused_item(
      [](Item& i, auto) { i.kind = static_cast<SentenceIndexKind>(3); }));

  float value[64] = {};
  const auto refused_score = [&](void (*spoil)(SentenceScoreItem & item)) {
    SentenceScoreItem item = {.kind = SentenceIndexKind::kSign,
                              .q = value,
                              .blocks = index.blocks.data(),
                              .num_entries = 1,
                              .scores = value,
                              .signs = index.signs.data(),
                              .ends = index.ends.data()};
    spoil(item);
    return backend_
               ->ScoreSentences({.items = &item,
                                 .num_items = 1,
                                 .num_heads = 1,
                                 .head_dim = 64})
               .code() == absl::StatusCode::kInvalidArgument;
  };
  EXPECT_FALSE(refused_score([](auto&) {}));
  EXPECT_TRUE(refused_score([](auto& i) { i.num_entries = 0; }));
  EXPECT_TRUE(refused_score([](auto& i) { i.q = nullptr; }));
  EXPECT_TRUE(refused_score([](auto& i) { i.blocks = nullptr; }));
  EXPECT_TRUE(refused_score([](auto& i) { i.scores = nullptr; }));
  EXPECT_TRUE(refused_score([](auto& i) { i.signs = nullptr; }));
  EXPECT_TRUE(refused_score([](auto& i) { i.ends = nullptr; }));
  EXPECT_TRUE(refused_score([](auto& i) { i.num_summed = -1; }));
  EXPECT_TRUE(refused_score([](auto& i) { i.num_refined = -1; }));
}

INSTANTIATE_TEST_SUITE_P(Cpu, SentenceIndexTest,
                         testing::ValuesIn(CpuVariants()), CpuVariantName);

}  // namespace
}  // namespace sentencekv
