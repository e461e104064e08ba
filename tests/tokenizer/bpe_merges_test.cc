#include "tokenizer/bpe_merges.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <utility>

namespace sentencekv {
namespace {

using ::testing::ElementsAre;

std::vector<int32_t> Apply(const BpeMerges& merges, std::vector<int32_t> ids) {
  BpeMerges::Workspace workspace;
  merges.Apply(ids, workspace);
  return ids;
}

TEST(BpeMerges, LeavesShortWordsAlone) {
  BpeMerges merges;
  merges.Add(1, 2, 3);
  EXPECT_THAT(Apply(merges, {}), ElementsAre());
  EXPECT_THAT(Apply(merges, {1}), ElementsAre(1));
  EXPECT_THAT(Apply(merges, {2, 1}), ElementsAre(2, 1));
}

TEST(BpeMerges, JoinsTheLowestRankFirst) {
  BpeMerges merges;
  ASSERT_TRUE(merges.Add(2, 3, 10));  // "bc" before "ab"
  ASSERT_TRUE(merges.Add(1, 2, 11));
  ASSERT_TRUE(merges.Add(1, 10, 12));
  EXPECT_THAT(Apply(merges, {1, 2, 3}), ElementsAre(12));
  EXPECT_THAT(Apply(merges, {1, 2, 1, 2, 3}), ElementsAre(11, 12));
}

TEST(BpeMerges, JoinsTheLeftmostOfEqualRank) {
  BpeMerges merges;
  merges.Add(1, 1, 2);
  EXPECT_THAT(Apply(merges, {1, 1, 1}), ElementsAre(2, 1));
  EXPECT_THAT(Apply(merges, {1, 1, 1, 1, 1}), ElementsAre(2, 2, 1));
}

TEST(BpeMerges, RefusesASecondRuleForAPair) {
  BpeMerges merges;
  EXPECT_TRUE(merges.Add(1, 2, 3));
  EXPECT_FALSE(merges.Add(1, 2, 4));
  EXPECT_THAT(Apply(merges, {1, 2}), ElementsAre(3));
}

// The definition: look for the best pair, join it, start again.
TEST(BpeMerges, AgreesWithTheDefinition) {
  std::mt19937 random(3);
  BpeMerges::Workspace workspace;
  for (int round = 0; round < 300; ++round) {
    BpeMerges merges;
    std::map<std::pair<int32_t, int32_t>, std::pair<int, int32_t>> rules;
    int32_t num_tokens = 3;
    for (int rank = 0; rank < 20; ++rank) {
      int32_t left = static_cast<int32_t>(random() % num_tokens);
      int32_t right = static_cast<int32_t>(random() % num_tokens);
      if (!merges.Add(left, right, num_tokens)) continue;
      rules[{left, right}] = {rank, num_tokens++};
    }
    std::vector<int32_t> ids(random() % 60);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % 3);

    std::vector<int32_t> expected = ids;
    while (true) {
      auto best = rules.end();
      size_t place = 0;
      for (size_t i = 0; i + 1 < expected.size(); ++i) {
        auto rule = rules.find({expected[i], expected[i + 1]});
        if (rule == rules.end()) continue;
        if (best == rules.end() || rule->second.first < best->second.first) {
          best = rule;
          place = i;
        }
      }
      if (best == rules.end()) break;
      expected[place] = best->second.second;
      expected.erase(expected.begin() + place + 1);
    }
    merges.Apply(ids, workspace);
    ASSERT_EQ(ids, expected) << "round " << round;
  }
}

}  // namespace
}  // namespace sentencekv
