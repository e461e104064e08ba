// sentence-paper over a tiny network: what must not depend on how a prompt
// comes, and where it reads everything.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "fmt/format.h"
#include "tests/support/paper_run.h"
#include "tests/support/tiny_model.h"
#include "tests/support/tiny_tensors.h"

namespace sentencekv {
namespace {

using Tokens = std::vector<int32_t>;

Tokens RandomTokens(int64_t count, uint64_t seed) {
  TinyRandom random(seed);
  Tokens tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int32_t>(random.Next() % 200));
  }
  return tokens;
}

Tokens Range(int32_t begin, int32_t end) {
  Tokens positions(static_cast<size_t>(end - begin));
  std::iota(positions.begin(), positions.end(), begin);
  return positions;
}

// Every ninth token ends a sentence.
Tokens Ends() {
  Tokens ends;
  for (int32_t id = 0; id < 300; id += 9) ends.push_back(id);
  return ends;
}

class PaperPolicy : public testing::Test {
 protected:
  static const std::string& Path() {
    static const std::string path = WriteTinyGguf(MakeTinyModel({}));
    return path;
  }
  static ModelRunnerOptions Options() {
    ModelRunnerOptions options;
    options.kv_dtype = DType::kF16;
    options.num_threads = 2;
    options.load.max_tokens_per_step = 512;
    return options;
  }
  // The ids that `full` gives.
  Tokens FullIds(const Tokens& prompt, size_t num_tokens) {
    ModelRunner& runner = paper_.runner();
    const size_t sequence = runner.Add();
    Tokens ids, next = prompt;
    while (ids.size() < num_tokens) {
      ids.push_back(Greedy(runner.Step(sequence, next).front()));
      next = {ids.back()};
    }
    return ids;
  }

  PaperRunner paper_{Path(), Ends(), Options()};
  const KvOptions tight_ = {.token_budget = 70, .semantic_factor = 1.5};
};

TEST_F(PaperPolicy, DoesNotDependOnChunks) {
  const Tokens prompt = RandomTokens(231, 1);
  const PaperRun whole = paper_.Run(tight_, prompt, 40);
  EXPECT_EQ(whole.Kept(1, 0).size(), 105u);
  EXPECT_NE(whole.Kept(0, 0), whole.Kept(0, 1));
  for (const int64_t chunk : {1, 7, 16, 31, 33, 200, 230}) {
    SCOPED_TRACE(fmt::format("chunks of {}", chunk));
    const PaperRun run = paper_.Run(tight_, prompt, 40, chunk);
    EXPECT_EQ(run.ids, whole.ids);
    EXPECT_EQ(run.logits, whole.logits);
    EXPECT_EQ(run.attended, whole.attended);
  }
}

TEST_F(PaperPolicy, ReadsWithinItsBudgetButAtSentenceStarts) {
  const PaperRun run = paper_.Run(tight_, RandomTokens(231, 2), 60);
  int budgeted = 0;
  for (size_t step = 0; step < run.attended.size(); ++step) {
    for (const PaperRun::Heads& heads : run.attended[step]) {
      for (const Tokens& read : heads) {
        EXPECT_EQ(read.back(), 231 + static_cast<int32_t>(step));
        if (read.size() == 106 + step) continue;
        EXPECT_EQ(read.size(), 70u);
        ++budgeted;
      }
    }
  }
  EXPECT_GT(budgeted, 100);
}

// Up to 64 entries the first and the last 32 are all there is.
TEST_F(PaperPolicy, IsFullWhileTheEdgesCoverEverything) {
  for (const int64_t length : {1, 5, 31, 32, 33, 40}) {
    SCOPED_TRACE(fmt::format("prompt of {}", length));
    const Tokens prompt = RandomTokens(length, 3);
    const auto num_tokens = static_cast<size_t>(64 - length);
    const PaperRun run = paper_.Run(tight_, prompt, num_tokens);
    EXPECT_EQ(run.ids, FullIds(prompt, num_tokens));
    EXPECT_EQ(run.Kept(0, 0), Range(0, static_cast<int32_t>(length)));
    EXPECT_EQ(run.attended.back()[1][1], Range(0, 64));
  }
}

// With a budget for everything only what the method never reads is missing:
// entry 32, and the older part of the open sentence.
TEST_F(PaperPolicy, WithALargeBudgetLeavesOutOnlyItsBlindSpots) {
  PaperRunner endless(Path(), {}, Options());
  const PaperRun run =
      endless.Run({.token_budget = 1000}, RandomTokens(90, 4), 50);
  Tokens expected = Range(0, 140);
  std::erase_if(expected,
                [](int32_t p) { return p == 32 || (p >= 90 && p < 108); });
  EXPECT_EQ(run.attended[0][0][0], Range(0, 91));
  EXPECT_EQ(run.attended[49][0][0], expected);
  EXPECT_EQ(run.attended[49][1][1], expected);
}

TEST_F(PaperPolicy, DoesNotDependOnTheBatch) {
  const Tokens prompt = RandomTokens(150, 5), other = RandomTokens(120, 6);
  const PaperRun alone = paper_.Run(tight_, prompt, 20);
  const Tokens full_alone = FullIds(other, 20);
  ModelRunner& runner = paper_.runner();
  const size_t full = runner.Add();
  const size_t paper = paper_.Add(tight_, prompt);
  Tokens full_ids, paper_ids, full_next = other, paper_next = prompt;
  std::vector<std::vector<PaperRun::Heads>> attended;
  while (full_ids.size() < 20) {
    const std::vector<ModelRunner::Feed> feeds = {{full, full_next, 1},
                                                  {paper, paper_next, 1}};
    const int64_t row = std::ssize(full_next);
    const auto logits = runner.Step(feeds);
    if (!paper_ids.empty()) attended.push_back(paper_.TakeAttended(paper, row));
    full_ids.push_back(Greedy(logits[0]));
    paper_ids.push_back(Greedy(logits[1]));
    full_next = {full_ids.back()};
    paper_next = {paper_ids.back()};
  }
  EXPECT_EQ(full_ids, full_alone);
  EXPECT_EQ(paper_ids, alone.ids);
  for (size_t step = 0; step < attended.size(); ++step) {
    EXPECT_EQ(attended[step], alone.attended[step]) << step;
  }
}

// A preempted request is computed again in one go, generated tokens too.
TEST_F(PaperPolicy, RecomputesGeneratedTokensAsTheyWere) {
  const Tokens prompt = RandomTokens(150, 7);
  const PaperRun once = paper_.Run(tight_, prompt, 40);
  Tokens fed = prompt;
  fed.insert(fed.end(), once.ids.begin(), once.ids.begin() + 30);
  const size_t sequence = paper_.Add(tight_, prompt);
  const PaperRun rest =
      paper_.Generate(sequence, paper_.Prefill(sequence, fed, 1 << 20), 10);
  EXPECT_EQ(rest.ids, Tokens(once.ids.begin() + 30, once.ids.end()));
  for (size_t step = 0; step < 10; ++step) {
    EXPECT_EQ(rest.logits[step], once.logits[30 + step]) << step;
    EXPECT_EQ(rest.attended[step], once.attended[30 + step]) << step;
  }
}

TEST_F(PaperPolicy, TakesAPrefixThatIsInThePool) {
  const Tokens prompt = RandomTokens(150, 8);
  ModelRunner& runner = paper_.runner();
  const PaperRun computed = paper_.Run(tight_, prompt, 40);
  const size_t owner = runner.Add();
  const int64_t reused = 7 * kPageTokens;
  runner.Step(owner, std::span(prompt).first(static_cast<size_t>(reused)));
  const size_t sequence = paper_.Add(tight_, prompt);
  CachedSequence& cached = runner.sequence(sequence);
  cached.pages = runner.sequence(owner).pages;
  for (const int32_t page : cached.pages) runner.pool().Share(page);
  cached.num_tokens = reused;
  ASSERT_TRUE(paper_.policy()
                  .OnReuse(runner.memory(), cached,
                           std::span(prompt).first(static_cast<size_t>(reused)))
                  .ok());
  const PaperRun run =
      paper_.Generate(sequence, paper_.Prefill(sequence, prompt, 1 << 20), 40);
  EXPECT_EQ(run.ids, computed.ids);
  EXPECT_EQ(run.attended, computed.attended);
}

}  // namespace
}  // namespace sentencekv
