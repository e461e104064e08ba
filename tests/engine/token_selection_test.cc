#include "engine/token_selection.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "gtest/gtest.h"

namespace sentencekv {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(TokenSelection, FindsNanAndInfinityAnywhere) {
  for (size_t size : {1u, 7u, 8u, 9u, 100u}) {
    std::vector<float> logits(size, 1.0f);
    EXPECT_TRUE(AllUsable(logits));
    for (size_t place : {size_t{0}, size / 2, size - 1}) {
      for (const float bad : {kInfinity, std::nanf("")}) {
        logits[place] = bad;
        EXPECT_FALSE(AllUsable(logits)) << size << " " << place;
      }
      logits[place] = -kInfinity;
      EXPECT_TRUE(AllUsable(logits));
      logits[place] = 1.0f;
    }
  }
}

TEST(TokenSelection, HighestIsTheLowestIdOnTies) {
  for (size_t size : {1u, 7u, 8u, 9u, 33u}) {
    std::vector<float> logits(size, -2.0f);
    EXPECT_EQ(HighestLogit(logits).id, 0);
    logits[size - 1] = 3.0f;
    EXPECT_EQ(HighestLogit(logits).id, static_cast<int32_t>(size) - 1);
    logits[size / 2] = 3.0f;
    EXPECT_EQ(HighestLogit(logits).id, static_cast<int32_t>(size / 2));
    EXPECT_EQ(HighestLogit(logits).logit, 3.0f);
  }
  const std::vector<float> nothing(20, -kInfinity);
  EXPECT_EQ(HighestLogit(nothing).logit, -kInfinity);
}

TEST(TokenSelection, SelectsAsAFullSortWould) {
  for (uint32_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    const size_t size = 1 + random() % 3000;
    // Few distinct values in half of the cases, so that ties are many; rising
    // or falling order in some, so that the threshold is bad at first.
    const uint32_t values = random() % 2 == 0 ? 5 : 1u << 30;
    std::vector<float> logits(size);
    for (float& logit : logits) logit = static_cast<float>(random() % values);
    if (seed % 5 == 0) std::sort(logits.begin(), logits.end());
    std::vector<Candidate> sorted;
    for (size_t id = 0; id < size; ++id) {
      sorted.push_back({logits[id], static_cast<int32_t>(id)});
    }
    std::sort(sorted.begin(), sorted.end(), ComesBefore);
    for (const int64_t count :
         {int64_t{0}, int64_t{1}, int64_t{20}, int64_t{64}, int64_t{1000},
          static_cast<int64_t>(size), int64_t{5000}}) {
      std::vector<Candidate> selected = {{99, 99}};
      SelectHighest(logits, count, &selected);
      ASSERT_EQ(selected.size(), std::min(static_cast<size_t>(count), size));
      for (size_t i = 0; i < selected.size(); ++i) {
        ASSERT_EQ(selected[i].id, sorted[i].id) << "count " << count;
        ASSERT_EQ(selected[i].logit, sorted[i].logit);
      }
    }
  }
}

TEST(TokenSelection, LogSumExpIsStableForLargeLogits) {
  EXPECT_NEAR(LogSumExp(std::vector<float>{0.0f, 0.0f}), std::log(2.0), 1e-6);
  EXPECT_NEAR(LogSumExp(std::vector<float>{1e6f, 1e6f, 1e6f, -1e6f}),
              1e6 + std::log(3.0), 1e-6);
  EXPECT_NEAR(LogSumExp(std::vector<float>{-kInfinity, -5.0f}), -5.0, 1e-6);
}

}  // namespace
}  // namespace sentencekv
