#include "cache/read_log.h"

#include <algorithm>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/tiny_tensors.h"

namespace sentencekv {
namespace {

constexpr int64_t kLayers = 2;
constexpr int64_t kKvHeads = 3;

// Sentences of 10 tokens; a context of theirs and `num_open` further tokens.
struct Context {
  explicit Context(int32_t num_sentences, int64_t num_open = 0)
      : num_tokens(num_sentences * 10 + num_open) {
    for (int32_t i = 1; i <= num_sentences; ++i) ends.push_back(i * 10);
  }
  SentenceSpans spans() const { return {ends, num_tokens}; }

  std::vector<int32_t> ends;
  int64_t num_tokens;
};

// One decode step, the same in all layers and heads.
void AddStep(const Context& context, const std::vector<float>& scores,
             const std::vector<int32_t>& chosen, ReadLog* log) {
  const SelectionLimits limits = {.budget = 100};
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    for (int64_t g = 0; g < kKvHeads; ++g) {
      log->AddSelection(
          limits, {layer, g, context.spans(), scores, chosen, 100 + layer});
    }
  }
}

std::vector<int64_t> Begins(const ReadSentence& sentence) {
  std::vector<int64_t> begins;
  for (const ReadSource& source : sentence.sources) {
    begins.push_back(source.begin);
  }
  return begins;
}

TEST(ReadLog, CountsStepsAndTokens) {
  ReadLog log(kLayers, kKvHeads, 0);
  EXPECT_EQ(log.counts().TokensPerStep(), 0);
  EXPECT_EQ(log.counts().Overlap(), 0);
  const Context context(8, 70);
  AddStep(context, std::vector<float>(8, 0.1f), {3, 4}, &log);
  EXPECT_EQ(log.counts().steps, 1);
  EXPECT_EQ(log.counts().heads, kLayers * kKvHeads);
  EXPECT_EQ(log.counts().sentences_chosen, 2 * kLayers * kKvHeads);
  EXPECT_DOUBLE_EQ(log.counts().TokensPerStep(), 100.5);
  for (int64_t layer = 0; layer < kLayers; ++layer) log.AddWhole(layer, 40);
  EXPECT_EQ(log.counts().steps, 2);
  EXPECT_DOUBLE_EQ(log.counts().TokensPerStep(), (100.5 + 40) / 2);
}

// Against sets, over random selections of a growing context.
TEST(ReadLog, ComparesWithTheStepBeforeInTheSameLayerAndHead) {
  TinyRandom random(7);
  ReadLog log(kLayers, kKvHeads, 0);
  std::vector<std::set<int32_t>> last(kLayers * kKvHeads);
  int64_t compared = 0, repeated = 0;
  ReadCounts sum;
  for (int32_t num_sentences = 50; num_sentences < 140; num_sentences += 3) {
    const Context context(num_sentences, 70);
    const std::vector<float> scores(static_cast<size_t>(num_sentences), 1.0f);
    for (int64_t layer = 0; layer < kLayers; ++layer) {
      for (int64_t g = 0; g < kKvHeads; ++g) {
        std::set<int32_t> chosen;
        for (int i = 0; i < 20; ++i) {
          chosen.insert(static_cast<int32_t>(
              random.Next() % static_cast<uint64_t>(num_sentences)));
        }
        std::set<int32_t>& before =
            last[static_cast<size_t>(layer * kKvHeads + g)];
        if (num_sentences > 50) compared += std::ssize(chosen);
        for (const int32_t i : chosen) repeated += before.count(i);
        before = chosen;
        const std::vector<int32_t> list(chosen.begin(), chosen.end());
        sum +=
            log.AddSelection({}, {layer, g, context.spans(), scores, list, 1});
      }
    }
  }
  ASSERT_GT(repeated, 0);
  EXPECT_EQ(log.counts().sentences_compared, compared);
  EXPECT_EQ(log.counts().sentences_repeated, repeated);
  EXPECT_DOUBLE_EQ(log.counts().Overlap(),
                   static_cast<double>(repeated) / compared);
  EXPECT_EQ(sum.sentences_repeated, repeated);
  EXPECT_EQ(sum.heads, log.counts().heads);
}

TEST(ReadLog, RanksWhatFewHeadsPickOutAboveWhatAllOfThemSpreadOver) {
  ReadLog log(1, 4, 8);
  const Context context(20, 70);
  // One head gives sentence 5 half of its scores; all give sentence 12 more
  // than the others, and more than sentence 5 on the whole.
  for (int64_t g = 0; g < 4; ++g) {
    std::vector<float> scores(20, 1.0f);
    scores[12] = 5.0f;
    if (g == 2) scores[5] = 20.0f;
    const std::vector<int32_t> chosen = {5, 12, 13};
    log.AddSelection({}, {0, g, context.spans(), scores, chosen, 100});
  }
  const auto sentences =
      log.TakeSentences({context.ends, 271}, /*num_prompt=*/269, true);
  ASSERT_EQ(sentences.size(), 1u);
  EXPECT_EQ(sentences[0].num_selections, 4);
  ASSERT_EQ(Begins(sentences[0]), (std::vector<int64_t>{50, 120, 130}));
  double sum = 0;
  for (const ReadSource& source : sentences[0].sources) {
    EXPECT_EQ(source.times_chosen, 4);
    EXPECT_EQ(source.end, source.begin + 10);
    sum += source.share;
  }
  EXPECT_NEAR(sum, 1, 1e-12);
}

TEST(ReadLog, LeavesOutTheSinkAndWhatWasNotChosen) {
  ReadLog log(kLayers, kKvHeads, 8);
  const Context context(20, 70);
  std::vector<float> scores(20, 1.0f);
  scores[0] = 100.0f;  // begins in the sink
  scores[1] = 100.0f;  // so does this: tokens 10..19
  scores[7] = 50.0f;   // did not fit
  AddStep(context, scores, {0, 1, 2, 3}, &log);
  const auto sentences = log.TakeSentences({context.ends, 271}, 270, true);
  ASSERT_EQ(sentences.size(), 1u);
  EXPECT_EQ(Begins(sentences[0]), (std::vector<int64_t>{20, 30}));
}

TEST(ReadLog, GivesEachGeneratedSentenceItsOwnSteps) {
  ReadLog log(kLayers, kKvHeads, 2);
  const int64_t num_prompt = 205;  // 20 sentences, and 5 tokens of the next
  // The prompt's last row gave the token at 205: the steps give 206...
  for (int64_t position = 206; position < 240; ++position) {
    const Context context(20, position - 200);
    std::vector<float> scores(20, 1.0f);
    const int32_t read = position < 210 ? 4 : position < 220 ? 5 : 6;
    scores[static_cast<size_t>(read)] = 10.0f;
    AddStep(context, scores, {4, 5, 6}, &log);
    // Ends become known some tokens later.
    if (position != 223) continue;
    const auto sentences =
        log.TakeSentences({Context(22).ends, 224}, num_prompt, false);
    ASSERT_EQ(sentences.size(), 2u);
    EXPECT_EQ(sentences[0].begin, 205);
    EXPECT_EQ(sentences[0].end, 210);
    EXPECT_EQ(sentences[0].num_selections, 4 * kLayers * kKvHeads);
    EXPECT_EQ(Begins(sentences[0]), (std::vector<int64_t>{40, 50}));
    EXPECT_EQ(sentences[1].begin, 210);
    EXPECT_EQ(sentences[1].end, 220);
    EXPECT_EQ(sentences[1].num_selections, 10 * kLayers * kKvHeads);
    EXPECT_EQ(Begins(sentences[1]), (std::vector<int64_t>{50, 40}));
    EXPECT_TRUE(
        log.TakeSentences({Context(22).ends, 224}, num_prompt, false).empty());
  }
  const auto last =
      log.TakeSentences({Context(22).ends, 240}, num_prompt, true);
  ASSERT_EQ(last.size(), 1u);
  EXPECT_EQ(last[0].begin, 220);
  EXPECT_EQ(last[0].end, 240);
  EXPECT_EQ(last[0].num_selections, 20 * kLayers * kKvHeads);
  EXPECT_EQ(Begins(last[0]), (std::vector<int64_t>{60, 40}));
}

TEST(ReadLog, SentencesReadFromTheWholeContextHaveNoSelections) {
  ReadLog log(kLayers, kKvHeads, 2);
  for (int64_t layer = 0; layer < kLayers; ++layer) log.AddWhole(layer, 31);
  const auto sentences = log.TakeSentences({Context(3).ends, 32}, 30, true);
  ASSERT_EQ(sentences.size(), 1u);
  EXPECT_EQ(sentences[0].num_selections, 0);
  EXPECT_TRUE(sentences[0].sources.empty());
}

}  // namespace
}  // namespace sentencekv
