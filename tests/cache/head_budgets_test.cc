#include "cache/head_budgets.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sentencekv {
namespace {

using ::testing::DoubleNear;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Pointwise;

double Mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) /
         static_cast<double>(values.size());
}

TEST(HeadShares, AreEvenWhereNothingIsMissed) {
  EXPECT_THAT(HeadShares(std::vector<double>{0, 0, 0}), ElementsAre(1, 1, 1));
}

TEST(HeadShares, AreEvenWhereAllMissTheSame) {
  EXPECT_THAT(HeadShares(std::vector<double>{5, 5}),
              Pointwise(DoubleNear(1e-12), {1.0, 1.0}));
}

TEST(HeadShares, GrowWithWhatIsMissed) {
  // Misses of 0, 1 and 2 times the mean.
  EXPECT_THAT(HeadShares(std::vector<double>{0, 3, 6}),
              Pointwise(DoubleNear(1e-12), {0.3, 1.0, 1.7}));
}

TEST(HeadShares, AreCutAtTheMostAndTheOthersGetTheRest) {
  EXPECT_THAT(HeadShares(std::vector<double>{0, 0, 0, 9}),
              Pointwise(DoubleNear(1e-12), {2.0 / 3, 2.0 / 3, 2.0 / 3, 2.0}));
}

TEST(HeadShares, KeepTheMeanAndTheOrderWhateverIsMissed) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    std::vector<double> misses(1 + random() % 60);
    std::lognormal_distribution<double> any(0, 1 + round % 4);
    for (double& miss : misses) miss = random() % 3 == 0 ? 0 : any(random);
    const std::vector<double> shares = HeadShares(misses);
    ASSERT_EQ(shares.size(), misses.size());
    EXPECT_NEAR(Mean(shares), 1, 1e-9);
    EXPECT_LE(std::ranges::max(shares), kMostHeadShare);
    EXPECT_GE(std::ranges::min(shares), kLeastHeadShare - 1e-12);
    for (size_t i = 0; i < misses.size(); ++i) {
      for (size_t j = 0; j < misses.size(); ++j) {
        if (misses[i] < misses[j]) {
          EXPECT_LE(shares[i], shares[j] + 1e-12);
        }
      }
    }
  }
}

// Ten sentences of ten tokens, of which the budget holds two.
class HeadBudgetsTest : public testing::Test {
 protected:
  HeadBudgetsTest() {
    for (int32_t i = 1; i <= 10; ++i) ends_.push_back(10 * i);
  }
  SentenceSpans Spans() const { return {ends_, 100}; }
  void Add(const std::vector<float>& attention,
           const std::vector<float>& scores) {
    budgets_.AddHead(limits_, Spans(), attention, scores);
  }
  std::vector<int64_t> Budgets() const {
    std::vector<int64_t> budgets;
    for (int64_t layer = 0; layer < 2; ++layer) {
      for (int64_t g = 0; g < 2; ++g) {
        budgets.push_back(budgets_.LimitsOf(limits_, layer, g).budget);
      }
    }
    return budgets;
  }

  const SelectionLimits limits_ = {
      .budget = 20, .num_sink = 10, .num_recent = 10};
  std::vector<int32_t> ends_;
  HeadBudgets budgets_{{.num_layers = 2, .num_kv_heads = 2}};
};

TEST_F(HeadBudgetsTest, AHeadWhoseIndexMissesGetsMore) {
  const std::vector<float> attention = {0, 0, 9, 8, 0, 0, 1, 1, 0, 0};
  const std::vector<float> wrong = {0, 0, 0, 0, 9, 9, 0, 0, 0, 0};
  Add(attention, attention);  // layer 0, KV head 0
  Add(attention, wrong);
  EXPECT_THAT(Budgets(), Each(20));                // until all are known
  Add(attention, {0, 0, 1, 1, 0, 0, 0, 0, 0, 0});  // another scale
  Add(attention, attention);
  EXPECT_THAT(Budgets(), ElementsAre(13, 40, 13, 13));
}

// What no choice of so many tokens could have is not the index's fault.
TEST_F(HeadBudgetsTest, AttentionToEverythingIsNoMiss) {
  const std::vector<float> even(10, 1.0f);
  const std::vector<float> peak = {0, 0, 9, 9, 0, 0, 0, 0, 0, 0};
  Add(even, peak);
  Add(even, even);
  Add(peak, peak);
  Add(even, {9, 8, 7, 6, 5, 4, 3, 2, 1, 0});
  EXPECT_THAT(Budgets(), Each(20));
}

// The sink and recent tokens are read whatever the index says.
TEST_F(HeadBudgetsTest, WhatIsReadAnywayIsNoMiss) {
  const std::vector<float> ends = {9, 0, 0, 0, 0, 0, 0, 0, 0, 9};
  const std::vector<float> middle = {0, 0, 0, 0, 9, 9, 0, 0, 0, 0};
  for (int i = 0; i < 4; ++i) Add(ends, middle);
  EXPECT_THAT(Budgets(), Each(20));
}

}  // namespace
}  // namespace sentencekv
