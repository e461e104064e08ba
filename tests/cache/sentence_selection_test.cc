#include "cache/sentence_selection.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/kv_layout.h"

namespace sentencekv {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;
using ::testing::UnorderedElementsAreArray;

// Positions of chosen tokens, for a page table of 100, 101, ...
std::vector<int64_t> PositionsOf(const ChosenPages& chosen) {
  std::vector<int64_t> positions;
  for (size_t i = 0; i < chosen.pages.size(); ++i) {
    EXPECT_NE(chosen.masks[i], 0);
    for (int64_t t = 0; t < kPageTokens; ++t) {
      if ((chosen.masks[i] >> t & 1) != 0) {
        positions.push_back(chosen.pages[i] * kPageTokens + t);
      }
    }
  }
  EXPECT_EQ(static_cast<int64_t>(positions.size()), chosen.num_tokens);
  return positions;
}

struct Choice {
  std::vector<int32_t> sentences;
  std::vector<int64_t> positions;
};

Choice Choose(const SelectionLimits& limits, const std::vector<int32_t>& ends,
              int64_t num_tokens, const std::vector<float>& scores) {
  SentenceSelector selector;
  const SentenceSpans spans = {ends, num_tokens};
  const auto sentences = selector.ChooseSentences(limits, spans, scores);
  Choice choice;
  choice.sentences.assign(sentences.begin(), sentences.end());
  ChosenPages chosen;
  selector.ListPages(limits, spans, sentences, &chosen);
  choice.positions = PositionsOf(chosen);
  return choice;
}

TEST(SentenceSelection, TakesSentencesByScoreUntilTheBudgetIsFull) {
  const SelectionLimits limits = {.budget = 30, .num_sink = 0, .num_recent = 1};
  const std::vector<int32_t> ends = {10, 20, 30, 40, 50};
  const Choice choice = Choose(limits, ends, 60, {.1f, .5f, .3f, .9f, .2f});
  EXPECT_THAT(choice.sentences, UnorderedElementsAre(3, 1, 2));
  std::vector<int64_t> expected;
  for (int64_t p = 10; p < 40; ++p) expected.push_back(p);
  for (int64_t p = 50; p < 60; ++p) expected.push_back(p);  // open
  EXPECT_EQ(choice.positions, expected);
}

TEST(SentenceSelection, SkipsWhatDoesNotFitAndTriesSmallerOnes) {
  const SelectionLimits limits = {.budget = 12, .num_sink = 0, .num_recent = 1};
  const Choice choice =
      Choose(limits, {10, 30, 35, 37, 38}, 39, {.9f, .8f, .7f, .6f, .5f});
  // 10 tokens, 20 do not fit, 5 do not fit, 2 do.
  EXPECT_THAT(choice.sentences, UnorderedElementsAre(0, 3));
}

TEST(SentenceSelection, TiesGoToTheLowestPosition) {
  const SelectionLimits limits = {.budget = 20, .num_sink = 0, .num_recent = 1};
  EXPECT_THAT(Choose(limits, {10, 20, 30, 40}, 41, {1, 1, 1, 1}).sentences,
              UnorderedElementsAre(0, 1));
}

TEST(SentenceSelection, TokensThatAreThereAnywayCostNothing) {
  const SelectionLimits limits = {
      .budget = 10, .num_sink = 16, .num_recent = 25};
  // Of the first sentence 4 tokens lie behind the sink, of the last 5 before
  // the recent ones; the third and the budget's rest are 1 token.
  const Choice choice = Choose(limits, {20, 40, 41, 60, 75, 80}, 90,
                               {.9f, .1f, .2f, .3f, .8f, .7f});
  EXPECT_THAT(choice.sentences, UnorderedElementsAre(0, 4, 2));
}

TEST(SentenceSelection, SinkRecentAndOpenSentenceAreAlwaysThere) {
  const SelectionLimits limits = {.budget = 0, .num_sink = 16, .num_recent = 8};
  const Choice choice = Choose(limits, {20, 50}, 100, {1, 1});
  EXPECT_THAT(choice.sentences, IsEmpty());
  std::vector<int64_t> expected;
  for (int64_t p = 0; p < 16; ++p) expected.push_back(p);
  for (int64_t p = 50; p < 100; ++p) expected.push_back(p);
  EXPECT_EQ(choice.positions, expected);
}

TEST(SentenceSelection, ShortContextsAreWhole) {
  const SelectionLimits limits = {.budget = 8};
  for (const int64_t num_tokens : {1, 5, 16, 17, 64, 70, 80, 88}) {
    std::vector<int32_t> ends;
    for (int32_t p = 3; p < num_tokens; p += 3) ends.push_back(p);
    const std::vector<float> scores(ends.size(), 1.0f);
    const Choice choice = Choose(limits, ends, num_tokens, scores);
    EXPECT_EQ(static_cast<int64_t>(choice.positions.size()), num_tokens);
  }
}

// A budget of one token leaves what is always there, and a sentence that has
// one token besides.
TEST(SentenceSelection, ABudgetSmallerThanWhatIsAlwaysThere) {
  const SelectionLimits limits = {.budget = 1, .num_sink = 4, .num_recent = 4};
  const Choice choice = Choose(limits, {5, 12, 18}, 20, {.1f, .9f, .8f});
  EXPECT_THAT(choice.sentences, ElementsAre(0));
  EXPECT_THAT(choice.positions, ElementsAre(0, 1, 2, 3, 4, 16, 17, 18, 19));
}

TEST(SentenceSelection, OneEndlessSentence) {
  const SelectionLimits limits = {.budget = 64};
  // Closed, it never fits; open, it is always there.
  const Choice closed = Choose(limits, {100000}, 100001, {1.0f});
  EXPECT_THAT(closed.sentences, IsEmpty());
  EXPECT_EQ(closed.positions.size(), 16u + 64u);
  EXPECT_EQ(Choose(limits, {}, 100000, {}).positions.size(), 100000u);
}

TEST(SentenceSelection, AMillionSentencesOfOneToken) {
  constexpr int32_t kCount = 1000000;
  const SelectionLimits limits = {.budget = 1000};
  std::vector<int32_t> ends(kCount);
  std::iota(ends.begin(), ends.end(), 1);
  std::vector<float> scores(kCount);
  // The best are spread: multiples of 701, that is prime to the count.
  for (int64_t i = 0; i < kCount; ++i) {
    scores[i] = static_cast<float>(i * 701 % kCount);
  }
  const Choice choice = Choose(limits, ends, kCount + 1, scores);
  ASSERT_EQ(choice.sentences.size(), 1000u);
  for (const int32_t sentence : choice.sentences) {
    EXPECT_GE(scores[sentence], kCount - 1000 - 80);
  }
  EXPECT_EQ(choice.positions.size(), 1000u + 16u + 64u);
}

// What the rule says, by sorting everything.
std::vector<int32_t> Reference(const SelectionLimits& limits,
                               const std::vector<int32_t>& ends,
                               int64_t num_tokens,
                               const std::vector<float>& scores) {
  std::vector<int32_t> order(ends.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
  std::vector<int32_t> taken;
  int64_t left = limits.budget;
  int misfits = 0;
  for (const int32_t i : order) {
    const int64_t begin =
        std::max<int64_t>(i == 0 ? 0 : ends[i - 1], limits.num_sink);
    const int64_t end =
        std::min<int64_t>(ends[i], num_tokens - limits.num_recent);
    if (left <= 0 || misfits == 16) break;
    if (begin >= end) continue;
    if (end - begin > left) {
      ++misfits;
      continue;
    }
    misfits = 0;
    left -= end - begin;
    taken.push_back(i);
  }
  return taken;
}

// Scores of one bin, of many, equal ones, zeros; sentences longer than most,
// so that what is looked at first does not fill the budget.
TEST(SentenceSelection, EqualsSortingEverything) {
  std::mt19937 random(7);
  for (int round = 0; round < 600; ++round) {
    SCOPED_TRACE(round);
    SelectionLimits limits;
    limits.budget = static_cast<int64_t>(1 + random() % 400);
    limits.num_recent = static_cast<int64_t>(1 + random() % 200);
    const int longest = round % 2 == 0 ? 32 : 300;
    std::vector<int32_t> ends;
    int32_t end = 0;
    for (int i = random() % 300; i > 0; --i) {
      ends.push_back(end += 1 + static_cast<int32_t>(random() % longest));
    }
    const int64_t num_tokens = end + 1 + static_cast<int64_t>(random() % 32);
    std::vector<float> scores(ends.size());
    for (float& score : scores) {
      const auto draw = static_cast<float>(random() % 1000);
      score = round % 3 == 0   ? 1.0f + draw * 1e-6f
              : round % 3 == 1 ? std::exp(-draw / 20)
                               : static_cast<float>(random() % 3);
    }
    EXPECT_THAT(
        Choose(limits, ends, num_tokens, scores).sentences,
        UnorderedElementsAreArray(Reference(limits, ends, num_tokens, scores)));
  }
}

// Random sentences and scores: within the budget, always-attended tokens
// present, nothing twice.
TEST(SentenceSelection, HoldsOverRandomContexts) {
  std::mt19937 random(42);
  for (int round = 0; round < 500; ++round) {
    SCOPED_TRACE(round);
    SelectionLimits limits;
    limits.budget = static_cast<int64_t>(1 + random() % 300);
    limits.num_sink = static_cast<int64_t>(random() % 20);
    limits.num_recent = static_cast<int64_t>(1 + random() % 70);
    std::vector<int32_t> ends;
    int32_t end = 0;
    const int count = random() % 200;
    for (int i = 0; i < count; ++i) {
      ends.push_back(end += 1 + static_cast<int32_t>(random() % 32));
    }
    const int64_t num_tokens = end + 1 + static_cast<int64_t>(random() % 32);
    std::vector<float> scores(ends.size());
    for (float& score : scores) score = static_cast<float>(random() % 50);
    const Choice choice = Choose(limits, ends, num_tokens, scores);

    const std::set<int64_t> positions(choice.positions.begin(),
                                      choice.positions.end());
    const std::set<int32_t> sentences(choice.sentences.begin(),
                                      choice.sentences.end());
    EXPECT_EQ(sentences.size(), choice.sentences.size());
    int64_t selected = 0;
    for (int64_t p = 0; p < num_tokens; ++p) {
      const auto sentence = static_cast<int32_t>(
          std::upper_bound(ends.begin(), ends.end(), p) - ends.begin());
      const bool always = p < limits.num_sink ||
                          p >= num_tokens - limits.num_recent ||
                          sentence == static_cast<int32_t>(ends.size());
      EXPECT_EQ(positions.count(p) == 1, always || sentences.count(sentence))
          << p;
      if (!always && positions.count(p) == 1) ++selected;
    }
    EXPECT_LE(selected, limits.budget);
  }
}

}  // namespace
}  // namespace sentencekv
