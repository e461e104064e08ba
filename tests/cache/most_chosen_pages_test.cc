// Whatever the scores: no choice has more pages than MostChosenPages says.
#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "cache/device_choosing.h"
#include "cache/page_pool.h"
#include "cache/sentence_selection.h"
#include "gtest/gtest.h"

namespace sentencekv {
namespace {

// A text of random sentences, and limits.
struct Text {
  std::vector<int32_t> ends;
  SentenceLengths lengths;
  SelectionLimits limits;
  int64_t num_tokens = 0;

  explicit Text(uint32_t seed) {
    std::mt19937 random(seed);
    const auto between = [&](int64_t low, int64_t high) {
      return std::uniform_int_distribution<int64_t>(low, high)(random);
    };
    // Also of single tokens, and longer than lengths are told apart.
    const int64_t longest = between(0, 1) == 0 ? 9 : between(1, 90);
    const int64_t count = between(1, 300);
    int64_t end = 0;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t length = between(1, longest);
      lengths.Add(length);
      end += length;
      ends.push_back(static_cast<int32_t>(end));
    }
    num_tokens = end + between(1, 40);
    limits.budget = between(1, 400);
    limits.num_sink = between(0, 40);
    limits.num_recent = between(1, 100);
  }

  int64_t Most() const {
    return MostChosenPages(limits, {ends, num_tokens}, lengths);
  }
};

// Pages of the choice that a selector makes of the scores.
int64_t NumPages(const Text& text, const std::vector<float>& scores) {
  SentenceSelector selector;
  const SentenceSpans spans = {text.ends, text.num_tokens};
  ChosenPages chosen;
  selector.ListPages(text.limits, spans,
                     selector.ChooseSentences(text.limits, spans, scores),
                     &chosen);
  return std::ssize(chosen.pages);
}

TEST(MostChosenPages, IsNoLessThanAnyChoice) {
  int num_full = 0;
  for (uint32_t seed = 0; seed < 2000; ++seed) {
    const Text text(seed);
    std::mt19937 random(seed);
    std::vector<float> scores(text.ends.size());
    // Those that touch most pages for their tokens first, with some noise.
    const SentenceSpans spans = {text.ends, text.num_tokens};
    for (size_t i = 0; i < scores.size(); ++i) {
      const auto sentence = static_cast<int64_t>(i);
      const int64_t pages = (spans.end(sentence) - 1) / kPageTokens -
                            spans.begin(sentence) / kPageTokens + 1;
      scores[i] =
          static_cast<float>(pages) /
              static_cast<float>(spans.end(sentence) - spans.begin(sentence)) +
          static_cast<float>(random() % 100) / 1000.0f;
    }
    const int64_t num_pages = NumPages(text, scores);
    ASSERT_LE(num_pages, text.Most()) << "seed " << seed;
    if (num_pages == text.Most()) ++num_full;
  }
  EXPECT_GT(num_full, 0);
}

// Of the first sentence one token lies behind the sink, of the last one before
// the tail: both are chosen for two tokens, though none is so short.
TEST(MostChosenPages, CountsSentencesThatAreChosenInPart) {
  Text text(1);
  text.ends = {17, 79, 110};
  text.lengths = SentenceLengths();
  for (const int64_t length : {17, 62, 31}) text.lengths.Add(length);
  text.num_tokens = 120;
  text.limits = {.budget = 2, .num_sink = 16, .num_recent = 40};
  // Pages 0, 1, 4 and, of the tail, 5 to 7.
  EXPECT_EQ(NumPages(text, {1, 0, 1}), 6);
  EXPECT_GE(text.Most(), 6);
}

// Sentences of 19 tokens, and the shortest of 8: two to three times what is
// commonly chosen.
TEST(MostChosenPages, IsTwoToThreeTimesACommonChoice) {
  Text text(1);
  text.ends.clear();
  text.lengths = SentenceLengths();
  std::mt19937 random(1);
  int32_t end = 0;
  for (int i = 0; i < 2000; ++i) {
    const auto length = static_cast<int32_t>(8 + random() % 23);
    text.lengths.Add(length);
    text.ends.push_back(end += length);
  }
  text.num_tokens = end + 5;
  text.limits = {.budget = 1024};
  std::vector<float> scores(text.ends.size());
  for (float& score : scores) score = static_cast<float>(random() % 10000);
  const auto common = static_cast<double>(NumPages(text, scores));
  const auto most = static_cast<double>(text.Most());
  EXPECT_GT(most, 2 * common);
  EXPECT_LT(most, 3 * common);
}

}  // namespace
}  // namespace sentencekv
