// The policy `sentence` under a whole model: what it gives depends on tokens
// and options alone, and is exact where the budget covers the context.
#include "cache/sentence_policy.h"

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/model_runner.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

using Logits = std::vector<std::vector<float>>;

// Sentences of different words and lengths; a byte is a token.
std::vector<int32_t> Story(size_t num_tokens, int seed) {
  std::string text;
  for (int i = seed; text.size() < num_tokens; ++i) {
    text += "Boat " + std::to_string(i * i) + " sails";
    for (int j = 0; j < i % 4; ++j) text += " far";
    text += ". ";
  }
  std::vector<int32_t> tokens(text.begin(), text.end());
  tokens.resize(num_tokens);
  return tokens;
}

class SentencePolicyTest : public testing::Test {
 protected:
  static ModelRunnerOptions Options() {
    ModelRunnerOptions options;
    options.num_pages = 400;
    options.num_threads = 2;
    options.load.max_tokens_per_step = 1024;
    options.load.max_logits_per_step = 1024;
    return options;
  }

  void Use(int64_t budget) {
    const ModelInfo& info = runner_.model().info();
    KvOptions options;
    options.token_budget = budget;
    ASSERT_TRUE(ValidateSentenceOptions(options).ok());
    options_ = options;
    policies_.push_back(
        MakeSentencePolicy({.tokenizer = &tokenizer_,
                            .shape = {.num_layers = info.num_layers,
                                      .num_heads = info.num_heads,
                                      .num_kv_heads = info.num_kv_heads,
                                      .head_dim = info.head_dim}}));
  }
  // A sequence under what was said with Use last; before that under `full`.
  size_t Add(int64_t num_prompt) {
    if (policies_.empty()) return runner_.Add();
    return runner_.Add(*policies_.back(), options_, num_prompt);
  }

  // A prompt in chunks, then the rest token by token; logits after each token
  // from the prompt's last on.
  Logits Run(const std::vector<int32_t>& tokens, int64_t num_prompt,
             int64_t chunk) {
    const size_t sequence = Add(num_prompt);
    const std::span<const int32_t> all(tokens);
    Logits logits = {
        runner_.RunAll(sequence, all.first(num_prompt), chunk).back()};
    for (auto& row : runner_.RunAll(sequence, all.subspan(num_prompt), 1)) {
      logits.push_back(std::move(row));
    }
    return logits;
  }

  ByteTokenizer tokenizer_;
  KvOptions options_;
  std::vector<std::unique_ptr<KvPolicy>> policies_;
  ModelRunner runner_{WriteTinyGguf(MakeTinyModel({.context_length = 2048})),
                      Options()};
};

TEST_F(SentencePolicyTest, BudgetThatCoversTheContextGivesTheBitsOfFull) {
  const std::vector<int32_t> tokens = Story(460, 1);
  const Logits full = Run(tokens, 400, 50);
  for (const int64_t budget : {380, 100000}) {
    Use(budget);
    for (const int64_t chunk : {1, 37, 400}) {
      EXPECT_EQ(Run(tokens, 400, chunk), full)
          << "budget " << budget << ", chunk " << chunk;
    }
  }
}

TEST_F(SentencePolicyTest, SmallBudgetsReadLess) {
  const std::vector<int32_t> tokens = Story(460, 1);
  const Logits full = Run(tokens, 400, 50);
  Use(40);
  const Logits sentence = Run(tokens, 400, 50);
  EXPECT_EQ(sentence[0], full[0]);  // the prompt is attended to as a whole
  for (size_t i = 1; i < full.size(); ++i) EXPECT_NE(sentence[i], full[i]) << i;
}

TEST_F(SentencePolicyTest, ChunksOfThePromptDoNotMatter) {
  const std::vector<int32_t> tokens = Story(460, 3);
  Use(64);
  const Logits whole = Run(tokens, 400, 400);
  // Chunks that end inside sentences, and inside the queries of the prior.
  for (const int64_t chunk : {1, 7, 64, 390}) {
    EXPECT_EQ(Run(tokens, 400, chunk), whole) << "chunk " << chunk;
  }
}

TEST_F(SentencePolicyTest, NeighboursDoNotMatter) {
  const std::vector<int32_t> tokens = Story(430, 3);
  Use(64);
  const Logits alone = Run(tokens, 400, 400);
  // Beside sequences of full, and of sentence with another budget.
  const std::span<const int32_t> all(tokens);
  const size_t mine = Add(400);
  Use(16);
  const size_t other = Add(300);
  const size_t full = runner_.Add();
  const std::vector<int32_t> story = Story(500, 9);
  const std::span<const int32_t> others(story);
  const auto row = [&](std::vector<ModelRunner::Feed> feeds) {
    return runner_.Step(feeds)[0];
  };
  EXPECT_EQ(row({{mine, all.first(400)},
                 {other, others.first(300)},
                 {full, others.first(100)}}),
            alone[0]);
  for (size_t i = 400; i < tokens.size(); ++i) {
    EXPECT_EQ(row({{mine, all.subspan(i, 1)},
                   {other, others.subspan(i - 100, 1)},
                   {full, others.subspan(i - 300, 1)}}),
              alone[i - 399])
        << i;
  }
}

TEST_F(SentencePolicyTest, ReusedPagesGiveTheSame) {
  const std::vector<int32_t> tokens = Story(440, 5);
  Use(64);
  const Logits computed = Run(tokens, 400, 400);
  const std::span<const int32_t> all(tokens);
  for (const int64_t reused : {16, 160, 368}) {
    const size_t donor = Add(400);
    runner_.RunAll(donor, all.first(400), 100);
    const size_t sequence = Add(400);
    CachedSequence& cached = runner_.sequence(sequence);
    const auto& pages = runner_.sequence(donor).pages;
    for (int64_t i = 0; i < PagesFor(reused); ++i) {
      runner_.pool().Share(pages[i]);
      cached.pages.push_back(pages[i]);
    }
    cached.num_tokens = reused;
    ASSERT_LE(reused, 400 - policies_.back()->num_replayed());
    ASSERT_TRUE(policies_.back()
                    ->OnReuse(runner_.backend(), runner_.pool(), cached,
                              all.first(reused))
                    .ok());
    Logits logits = {
        runner_.RunAll(sequence, all.subspan(reused, 400 - reused), 400)
            .back()};
    for (auto& row : runner_.RunAll(sequence, all.subspan(400), 1)) {
      logits.push_back(std::move(row));
    }
    EXPECT_EQ(logits, computed) << reused << " tokens reused";
  }
}

TEST_F(SentencePolicyTest, RefusesWhatItDoesNotTake) {
  KvOptions options;
  options.token_budget = -1;
  EXPECT_EQ(ValidateSentenceOptions(options).code(),
            absl::StatusCode::kInvalidArgument);
  options = {};
  options.semantic_factor = 2;
  EXPECT_NE(ValidateSentenceOptions(options).message().find("semantic_factor"),
            std::string::npos);
}

}  // namespace
}  // namespace sentencekv
