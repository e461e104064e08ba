#include "cache/paper_selection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace sentencekv {
namespace {

using ::testing::ElementsAre;
using Positions = std::vector<int32_t>;

Positions Range(int32_t begin, int32_t end) {
  Positions positions(static_cast<size_t>(end - begin));
  std::iota(positions.begin(), positions.end(), begin);
  return positions;
}

Positions Concat(const std::vector<Positions>& parts) {
  Positions all;
  for (const Positions& part : parts) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

TEST(KeepHeaviest, KeepsTheWindowAndTheNeighboursOfPeaks) {
  std::vector<float> mass(100);
  mass[50] = 2;
  mass[10] = 1;
  EXPECT_EQ(KeepHeaviest(mass, 32), Range(100, 132));
  EXPECT_EQ(KeepHeaviest(mass, 32 + 7),
            Concat({Range(47, 54), Range(100, 132)}));
  // Equal scores: the lowest positions.
  EXPECT_EQ(KeepHeaviest(mass, 32 + 9),
            Concat({Range(7, 9), Range(47, 54), Range(100, 132)}));
  EXPECT_EQ(KeepHeaviest(mass, 32 + 15),
            Concat({{0}, Range(7, 14), Range(47, 54), Range(100, 132)}));
  EXPECT_EQ(KeepHeaviest(mass, 132), Range(0, 132));
}

TEST(KeepHeaviest, PoolsAtTheEdges) {
  std::vector<float> mass = {5, 0, 0, 0, 0, 0, 0, 0, 0, 4};
  EXPECT_EQ(KeepHeaviest(mass, 32 + 8),
            Concat({Range(0, 4), Range(6, 10), Range(10, 42)}));
  EXPECT_EQ(KeepHeaviest(std::vector<float>{}, 32), Range(0, 32));
}

TEST(SentenceBounds, ClosesTheLastSentence) {
  EXPECT_THAT(SentenceBounds(Positions{}, 5), ElementsAre(0, 5));
  EXPECT_THAT(SentenceBounds(Positions{1, 3}, 5), ElementsAre(0, 2, 4, 5));
  EXPECT_THAT(SentenceBounds(Positions{1, 4}, 5), ElementsAre(0, 2, 5));
  // Ends of generated tokens are none of the prompt's.
  EXPECT_THAT(SentenceBounds(Positions{1, 5, 6}, 5), ElementsAre(0, 2, 5));
}

TEST(LongestListed, GrowsWithTheMeanLength) {
  EXPECT_EQ(LongestListed(0, 0), 100);
  EXPECT_EQ(LongestListed(192, 23), 100);
  EXPECT_EQ(LongestListed(300, 10), 110);
  EXPECT_EQ(LongestListed(309, 10), 110);
}

TEST(NumKept, IsBoundedByThePrompt) {
  EXPECT_EQ(NumKept(10, 64), 10);
  EXPECT_EQ(NumKept(200, 64), 64);
}

// Everything of a prompt of 200 tokens is kept; entries are positions. Three
// sentences, whose means point in different directions.
class PaperIndexTest : public testing::Test {
 protected:
  PaperIndexTest() : index_(Range(0, 200), 200) {
    index_.AddSentence(0, 60, 2, Keys(60, {1, 0}));
    index_.AddSentence(60, 40, 2, Keys(60, {0, 1}));
    index_.AddSentence(120, 80, 2, Keys(80, {-1, -1}));
  }

  // Keys around their mean.
  static std::vector<float> Keys(int count, std::vector<float> mean) {
    std::vector<float> keys;
    for (int i = 0; i < count; ++i) {
      const float offset = i % 2 == 0 ? 3.0f : -3.0f;
      keys.push_back(mean[0] + offset);
      keys.push_back(mean[1] - offset);
    }
    return keys;
  }
  // What is selected beside the first and the last 32 of 210 entries.
  Positions Chosen(std::vector<float> query, int64_t budget) {
    Positions chosen = index_.Select(query, 210, budget);
    std::erase_if(chosen, [](int32_t p) { return p < 32 || p >= 178; });
    return chosen;
  }

  PaperIndex index_;
};

TEST_F(PaperIndexTest, TakesSentencesInTheOrderOfTheirScores) {
  EXPECT_EQ(Chosen({2, 1}, 64), Positions{});
  // Entry 32 is never read.
  EXPECT_EQ(Chosen({2, 1}, 64 + 5), Range(33, 38));
  EXPECT_EQ(Chosen({2, 1}, 64 + 27 + 6), Range(33, 66));
  EXPECT_EQ(Chosen({1, 2}, 64 + 7), Range(60, 67));
  EXPECT_EQ(Chosen({-1, -2}, 64 + 7), Range(120, 127));
}

TEST_F(PaperIndexTest, LeavesOutWhatIsNotListed) {
  EXPECT_EQ(Chosen({1, 2}, 64 + 50), Concat({Range(33, 43), Range(60, 100)}));
  // Entries 178 on are read anyway and cost nothing.
  EXPECT_EQ(Chosen({0, 1}, 10000),
            Concat({Range(33, 60), Range(60, 100), Range(120, 178)}));
}

TEST_F(PaperIndexTest, ReadsBothEdges) {
  const std::vector<float> query = {1, 1};
  EXPECT_EQ(index_.Select(query, 210, 64),
            Concat({Range(0, 32), Range(178, 210)}));
  // Few entries: the edges meet.
  EXPECT_EQ(index_.Select(query, 64, 64), Range(0, 64));
  EXPECT_EQ(index_.Select(query, 20, 64), Range(0, 20));
}

TEST_F(PaperIndexTest, CountsGeneratedTokensAfterWhatIsKept) {
  PaperIndex sparse({3, 5, 9}, 12);
  EXPECT_THAT(sparse.All(5), ElementsAre(3, 5, 9, 12, 13));
  index_.AddSentence(200, 10, 2, Keys(10, {5, 5}));
  // 240 entries: the last 32 begin at 208.
  const Positions read = index_.Select(std::vector<float>{1, 1}, 240, 64 + 8);
  EXPECT_EQ(read, Concat({Range(0, 32), Range(200, 240)}));
}

}  // namespace
}  // namespace sentencekv
