// The policy `sentence` under a whole model: what it gives depends on tokens
// and options alone, and is exact where the budget covers the context.
#include "cache/sentence_policy.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "cache/head_budgets.h"
#include "cache/sentence_settings.h"
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

// Ways to choose sentences.
struct Variant {
  const char* name;
  KvOptions options;
};

KvOptions Kind(SentenceIndexKind kind, bool prior) {
  KvOptions options;
  options.index_kind = kind;
  options.prior = prior;
  return options;
}

KvOptions Blended() {
  KvOptions options;
  options.query_blend = 0.5;
  options.reuse_bonus = 1.0;
  options.sink_tokens = 3;
  options.recent_tokens = 20;
  return options;
}

KvOptions Lagging() {
  KvOptions options;
  options.strict = false;
  return options;
}

const Variant kVariants[] = {
    {"Default", {}},
    {"NoPrior", Kind(SentenceIndexKind::kMean, false)},
    {"MinMax", Kind(SentenceIndexKind::kMinMax, true)},
    {"Sign", Kind(SentenceIndexKind::kSign, false)},
    {"SignWithPrior", Kind(SentenceIndexKind::kSign, true)},
    {"Blended", Blended()},
    {"Lagging", Lagging()},
    {"EvenHeads", {.head_budgets = false}},
};

class SentencePolicyTest : public testing::TestWithParam<Variant> {
 protected:
  ModelRunnerOptions Options() {
    ModelRunnerOptions options;
    options.on_selections = [this](const SelectedAttentionParams& params) {
      for (int64_t i = 0; i < params.num_selections; ++i) {
        const SelectedTokens& selection = params.selections[i];
        int64_t count = 0;
        for (int64_t p = 0; p < selection.num_pages; ++p) {
          count += std::popcount(selection.masks[p]);
        }
        most_read_ = std::max(most_read_, count);
      }
    };
    options.num_pages = 400;
    options.num_threads = 2;
    options.load.max_tokens_per_step = 1024;
    options.load.max_logits_per_step = 1024;
    return options;
  }

  void Use(int64_t budget) {
    const ModelInfo& info = runner_.model().info();
    KvOptions options = GetParam().options;
    options.token_budget = budget;
    options.dense_tokens = 0;
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

  int64_t most_read_ = 0;  // tokens of a row in one KV head
  ByteTokenizer tokenizer_;
  KvOptions options_;
  std::vector<std::unique_ptr<KvPolicy>> policies_;
  ModelRunner runner_{WriteTinyGguf(MakeTinyModel({.context_length = 2048})),
                      Options()};
};

TEST_P(SentencePolicyTest, BudgetThatCoversTheContextGivesTheBitsOfFull) {
  const std::vector<int32_t> tokens = Story(460, 1);
  const Logits full = Run(tokens, 400, 50);
  for (const int64_t budget : {457, 100000}) {
    Use(budget);
    for (const int64_t chunk : {1, 37, 400}) {
      EXPECT_EQ(Run(tokens, 400, chunk), full)
          << "budget " << budget << ", chunk " << chunk;
    }
  }
}

TEST_P(SentencePolicyTest, SmallBudgetsReadLess) {
  const std::vector<int32_t> tokens = Story(460, 1);
  const Logits full = Run(tokens, 400, 50);
  Use(40);
  const Logits sentence = Run(tokens, 400, 50);
  EXPECT_EQ(sentence[0], full[0]);  // the prompt is attended to as a whole
  for (size_t i = 1; i < full.size(); ++i) EXPECT_NE(sentence[i], full[i]) << i;
}

TEST_P(SentencePolicyTest, ChunksOfThePromptDoNotMatter) {
  const std::vector<int32_t> tokens = Story(460, 3);
  Use(64);
  const Logits whole = Run(tokens, 400, 400);
  // Chunks that end inside sentences, and inside the queries of the prior.
  for (const int64_t chunk : {1, 7, 64, 390}) {
    EXPECT_EQ(Run(tokens, 400, chunk), whole) << "chunk " << chunk;
  }
}

TEST_P(SentencePolicyTest, NeighboursDoNotMatter) {
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

TEST_P(SentencePolicyTest, ReusedPagesGiveTheSame) {
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
                    ->OnReuse(runner_.memory(), cached, all.first(reused))
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

// No ends, nothing but ends, lines of nothing: read within the budget, and the
// same in every chunk.
// A sentence has the same entry whether it came with the prompt or was
// generated; the context is read as a whole until then.
TEST_P(SentencePolicyTest, GeneratedSentencesAreChosenLikeThoseOfThePrompt) {
  constexpr int64_t kDense = 560;
  const std::vector<int32_t> tokens = Story(600, 5);
  Use(48);
  options_.dense_tokens = kDense;
  // These differ with what was the prompt.
  options_.prior = false;
  options_.query_blend = 0;
  const Logits with_prompt = Run(tokens, kDense, 100);
  EXPECT_LT(most_read_, kDense / 2);
  const Logits generated = Run(tokens, 100, 100);
  EXPECT_EQ(with_prompt,
            Logits(generated.end() - std::ssize(with_prompt), generated.end()));
}

TEST_P(SentencePolicyTest, HostileTexts) {
  Use(16);
  for (const std::string unit :
       {"a", ".", "\n", " ", "\x80", ". ", "3.14", "A sentence. "}) {
    SCOPED_TRACE(unit);
    std::vector<int32_t> tokens;
    while (tokens.size() < 360) {
      for (const char c : unit) tokens.push_back(static_cast<unsigned char>(c));
    }
    most_read_ = 0;
    const Logits whole = Run(tokens, 330, 330);
    // Sink, recent, a head's budget, and an open sentence of at most 32 tokens
    // and what is looked ahead.
    EXPECT_GT(most_read_, 0);
    EXPECT_LE(most_read_, 16 + 64 + kMostHeadShare * 16 + 48);
    EXPECT_EQ(Run(tokens, 330, 13), whole);
  }
}

INSTANTIATE_TEST_SUITE_P(All, SentencePolicyTest, testing::ValuesIn(kVariants),
                         [](const auto& info) {
                           return std::string(info.param.name);
                         });

class SentenceChoiceTest : public SentencePolicyTest {};

// Every setting changes what is read.
TEST_P(SentenceChoiceTest, DiffersFromTheDefault) {
  const std::vector<int32_t> tokens = Story(460, 1);
  Use(48);
  const Logits with = Run(tokens, 400, 50);
  const KvOptions options = options_;
  options_ = {.token_budget = 48, .dense_tokens = 0};
  const Logits without = Run(tokens, 400, 50);
  EXPECT_EQ(with[0], without[0]);
  EXPECT_NE(with, without);
}

KvOptions Only(void (*set)(KvOptions& options)) {
  KvOptions options;
  set(options);
  return options;
}

INSTANTIATE_TEST_SUITE_P(
    All, SentenceChoiceTest,
    testing::Values(
        Variant{"NoPrior", Only([](auto& o) { o.prior = false; })},
        Variant{"PriorStays", Only([](auto& o) { o.prior_half_life = 0; })},
        Variant{"MinMax", Kind(SentenceIndexKind::kMinMax, true)},
        Variant{"Sign", Kind(SentenceIndexKind::kSign, true)},
        Variant{"Blend", Only([](auto& o) { o.query_blend = 0.5; })},
        Variant{"Bonus", Only([](auto& o) { o.reuse_bonus = 1; })},
        Variant{"Lagging", Lagging()},
        Variant{"EvenHeads", {.head_budgets = false}},
        Variant{"Sink", Only([](auto& o) { o.sink_tokens = 0; })},
        Variant{"Recent", Only([](auto& o) { o.recent_tokens = 10; })}),
    [](const auto& info) { return std::string(info.param.name); });

// Short contexts are read as a whole unless a request says otherwise.
TEST(SentencePolicyOptions, ShortContextsAreDense) {
  const ByteTokenizer tokenizer;
  const auto policy = MakeSentencePolicy(
      {.tokenizer = &tokenizer,
       .shape = {
           .num_layers = 1, .num_heads = 1, .num_kv_heads = 1, .head_dim = 8}});
  const auto num_exact = [&](const KvOptions& options) {
    CachedSequence sequence;
    sequence.num_tokens = 100000;
    sequence.num_prompt = 10;
    sequence.policy_state = policy->NewState(options);
    return policy->NumExact(sequence);
  };
  EXPECT_EQ(num_exact({}), 4096);
  EXPECT_EQ(num_exact({.dense_tokens = 0}), 1024 + 16 + 64);
  EXPECT_EQ(num_exact({.dense_tokens = 50000}), 50000);
  EXPECT_EQ(num_exact({.token_budget = 10000}), 10080);
}

TEST(SentencePolicyOptions, RefusesWhatItDoesNotTake) {
  const struct {
    KvOptions options;
    const char* field;
  } wrong[] = {
      {{.token_budget = -1}, "kv.token_budget"},
      {{.semantic_factor = 2}, "kv.semantic_factor"},
      {{.prior_half_life = -1}, "kv.prior_half_life"},
      {{.query_blend = 1.5}, "kv.query_blend"},
      {{.query_blend = NAN}, "kv.query_blend"},
      {{.sink_tokens = -1}, "kv.sink_tokens"},
      {{.recent_tokens = 0}, "kv.recent_tokens"},
      {{.dense_tokens = -1}, "kv.dense_tokens"},
      {{.reuse_bonus = 11}, "kv.reuse_bonus"},
  };
  for (const auto& one : wrong) {
    const absl::Status status = ValidateSentenceOptions(one.options);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find(one.field), std::string::npos)
        << status.message();
  }
}

// Other policies do not take what only this one understands.
TEST(SentencePolicyOptions, AreRefusedByOtherPolicies) {
  for (const std::string policy : {"full", "sentence-paper"}) {
    for (const KvOptions& options : std::vector<KvOptions>{
             {.policy = policy, .index_kind = SentenceIndexKind::kMean},
             {.policy = policy, .prior = true},
             {.policy = policy, .prior_half_life = 1},
             {.policy = policy, .query_blend = 0},
             {.policy = policy, .sink_tokens = 1},
             {.policy = policy, .recent_tokens = 1},
             {.policy = policy, .dense_tokens = 1},
             {.policy = policy, .reuse_bonus = 1},
             {.policy = policy, .strict = true},
             {.policy = policy, .head_budgets = true}}) {
      EXPECT_NE(
          ValidateKvOptions(options).message().find("only policy sentence"),
          std::string::npos)
          << policy;
    }
  }
}

}  // namespace
}  // namespace sentencekv
