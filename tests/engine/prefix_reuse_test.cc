// The engine with its prefix cache: who finds what earlier requests left.
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/engine/core_harness.h"

namespace sentencekv {
namespace {

Collected AnswerTo(CoreHarness& harness, const GenerateRequest& request) {
  auto stream = harness.Submit(request);
  harness.RunUntilIdle();
  Collected answer;
  answer.Read(*stream);
  EXPECT_TRUE(answer.finish.has_value());
  return answer;
}

// Prompt tokens computed by all steps so far.
int64_t PrefillTokens(const CoreHarness& harness) {
  int64_t tokens = 0;
  for (const StepStats& step : harness.steps) tokens += step.prefill_tokens;
  return tokens;
}

TEST(PrefixReuse, ARepeatedPromptIsComputedOnce) {
  CoreHarness harness;
  const Collected first = AnswerTo(harness, GreedyRequest("a", 70, 20));
  EXPECT_EQ(first.finish->usage.cached_tokens, 0);
  EXPECT_EQ(PrefillTokens(harness), 70);
  const Collected second = AnswerTo(harness, GreedyRequest("b", 70, 20));
  EXPECT_EQ(second.finish->usage.cached_tokens, 64);
  EXPECT_EQ(PrefillTokens(harness), 70 + 6);
  EXPECT_EQ(second.ids, first.ids);
  EXPECT_EQ(second.text, first.text);
  const EngineStats stats = harness.core->stats();
  EXPECT_EQ(stats.prefix_query_tokens, 140);
  EXPECT_EQ(stats.prefix_hit_tokens, 64);
  // 70 + 19 tokens were computed: five whole pages.
  EXPECT_EQ(stats.pages_cached, 5);
  EXPECT_EQ(stats.pages_used, 0);
}

TEST(PrefixReuse, APromptOfWholePagesComputesItsLastTokenOnly) {
  CoreHarness harness;
  const Collected first = AnswerTo(harness, GreedyRequest("a", 64, 20));
  const Collected second = AnswerTo(harness, GreedyRequest("b", 64, 20));
  EXPECT_EQ(second.finish->usage.cached_tokens, 63);
  EXPECT_EQ(PrefillTokens(harness), 64 + 1);
  EXPECT_EQ(harness.backend.num_page_copies(), 1);
  EXPECT_EQ(second.ids, first.ids);
}

// The next turn of a conversation finds the answer too.
TEST(PrefixReuse, ThePromptAfterAnAnswerFindsPromptAndAnswer) {
  CoreHarness harness;
  GenerateRequest turn = GreedyRequest("a", 40, 40);
  const Collected answer = AnswerTo(harness, turn);
  turn.request_id = "b";
  turn.prompt.insert(turn.prompt.end(), answer.ids.begin(), answer.ids.end());
  turn.prompt.insert(turn.prompt.end(), {1, 2, 3});
  // 40 + 39 tokens were computed; the last was only said.
  const Collected next = AnswerTo(harness, turn);
  EXPECT_EQ(next.finish->usage.cached_tokens, 64);
  CoreHarness fresh;
  EXPECT_EQ(AnswerTo(fresh, turn).ids, next.ids);
}

TEST(PrefixReuse, ThoseBesideEachOtherShareWhatIsComplete) {
  CoreHarness harness;
  auto first = harness.Submit(GreedyRequest("a", 100, 40));
  for (int step = 0; step < 3; ++step) harness.Step();
  const int64_t used = harness.pool->stats().used;
  auto second = harness.Submit(GreedyRequest("b", 100, 40));
  harness.Step();
  EXPECT_EQ(harness.pool->stats().used, used + 1);
  harness.RunUntilIdle();
  Collected a, b;
  a.Read(*first);
  b.Read(*second);
  EXPECT_EQ(b.finish->usage.cached_tokens, 96);
  EXPECT_EQ(a.ids, b.ids);
}

TEST(PrefixReuse, ACancelledRequestLeavesWhatItComputed) {
  HarnessOptions options;
  options.engine.max_step_tokens = 20;
  CoreHarness harness(options);
  auto stream = harness.Submit(GreedyRequest("a", 100, 5));
  for (int step = 0; step < 3; ++step) harness.Step();
  stream->Cancel();
  harness.RunUntilIdle();
  EXPECT_EQ(harness.pool->stats().cached, 3);
  const Collected next = AnswerTo(harness, GreedyRequest("b", 100, 5));
  EXPECT_EQ(next.finish->usage.cached_tokens, 48);
}

TEST(PrefixReuse, APreemptedRequestFindsItsOwnPages) {
  const auto prefill_tokens = [](bool enabled) {
    HarnessOptions options;
    options.num_pages = 12;
    options.prefixes.enabled = enabled;
    CoreHarness harness(options);
    std::vector<std::shared_ptr<TokenStream>> streams;
    for (int i = 0; i < 3; ++i) {
      GenerateRequest request = GreedyRequest(std::to_string(i), 40, 60);
      request.prompt[0] = i;  // nothing to find in each other
      streams.push_back(harness.Submit(request));
    }
    harness.RunUntilIdle();
    EXPECT_GT(harness.core->stats().preemptions, 0);
    for (const auto& stream : streams) {
      Collected answer;
      answer.Read(*stream);
      EXPECT_EQ(answer.ids.size(), 60u);
      EXPECT_EQ(answer.finish->usage.cached_tokens, 0);
    }
    return PrefillTokens(harness) - 3 * 40;
  };
  const int64_t again = prefill_tokens(false);
  EXPECT_GT(again, 40);
  EXPECT_LT(prefill_tokens(true), again * 2 / 3);
}

// Every row of its prompt is wanted, so it computes all of it; what it computed
// others may have.
TEST(PrefixReuse, PromptLogprobsReuseNothing) {
  CoreHarness harness;
  GenerateRequest scored = GreedyRequest("a", 70, 5);
  scored.output.prompt_logprobs = true;
  const Collected first = AnswerTo(harness, scored);
  const Collected second = AnswerTo(harness, scored);
  EXPECT_EQ(second.finish->usage.cached_tokens, 0);
  ASSERT_EQ(second.prompt_logprobs.size(), 69u);
  for (size_t i = 0; i < 69; ++i) {
    EXPECT_EQ(second.prompt_logprobs[i].logprob,
              first.prompt_logprobs[i].logprob);
  }
  const Collected plain = AnswerTo(harness, GreedyRequest("b", 70, 5));
  EXPECT_EQ(plain.finish->usage.cached_tokens, 64);
  EXPECT_EQ(plain.ids, first.ids);
}

TEST(PrefixReuse, SaltsAndBypassKeepRequestsApart) {
  CoreHarness harness;
  GenerateRequest request = GreedyRequest("a", 70, 5);
  const Collected first = AnswerTo(harness, request);
  request.kv.cache_salt = "tenant";
  EXPECT_EQ(AnswerTo(harness, request).finish->usage.cached_tokens, 0);
  EXPECT_EQ(AnswerTo(harness, request).finish->usage.cached_tokens, 64);
  request.kv.cache_salt = "another";
  request.kv.bypass_prefix_cache = true;
  EXPECT_EQ(AnswerTo(harness, request).finish->usage.cached_tokens, 0);
  EXPECT_EQ(AnswerTo(harness, request).ids, first.ids);
  request.kv.bypass_prefix_cache = false;
  EXPECT_EQ(AnswerTo(harness, request).finish->usage.cached_tokens, 0)
      << "the one that bypassed left nothing";
  EXPECT_EQ(harness.core->stats().prefix_query_tokens, 4 * 70);
}

TEST(PrefixReuse, AFailedCopyEndsTheRequestAndNoOther) {
  CoreHarness harness;
  AnswerTo(harness, GreedyRequest("a", 64, 5));
  harness.backend.FailPageCopies(absl::DataLossError("the device is gone"));
  const Collected failed = AnswerTo(harness, GreedyRequest("b", 64, 5));
  EXPECT_EQ(failed.finish->reason, FinishReason::kError);
  EXPECT_EQ(failed.finish->status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(harness.pool->stats().used, 0);
  EXPECT_EQ(AnswerTo(harness, GreedyRequest("c", 70, 5)).finish->reason,
            FinishReason::kLength);
}

TEST(PrefixReuse, AResetForgetsWhatNobodyUses) {
  CoreHarness harness;
  AnswerTo(harness, GreedyRequest("a", 70, 5));
  GenerateRequest other = GreedyRequest("b", 100, 50);
  other.prompt[0] = 0;
  auto stream = harness.Submit(other);
  harness.Step();
  std::vector<int64_t> dropped;
  int64_t cached = -1;
  harness.queue->PushReset([&](absl::StatusOr<int64_t> tokens) {
    dropped.push_back(tokens.value_or(-1));
    cached = harness.core->stats().pages_cached;
  });
  EXPECT_TRUE(dropped.empty());
  harness.Step();
  EXPECT_EQ(dropped, std::vector<int64_t>{64});
  EXPECT_EQ(cached, 0) << "who is told sees it";
  harness.RunUntilIdle();
  other.request_id = "c";
  EXPECT_EQ(AnswerTo(harness, other).finish->usage.cached_tokens, 96);
  EXPECT_EQ(
      AnswerTo(harness, GreedyRequest("d", 70, 5)).finish->usage.cached_tokens,
      0);
}

// With everything cached, admission sees a free pool and takes what it needs.
TEST(PrefixReuse, AFullCacheStandsInNobodysWay) {
  HarnessOptions options;
  options.num_pages = 10;
  CoreHarness harness(options);
  for (int i = 0; i < 20; ++i) {
    GenerateRequest request = GreedyRequest(std::to_string(i), 120, 30);
    request.prompt[0] = i;
    EXPECT_EQ(AnswerTo(harness, request).ids.size(), 30u);
    EXPECT_EQ(harness.pool->stats().free, 10);
    EXPECT_EQ(harness.pool->stats().cached, 9);
  }
  EXPECT_EQ(harness.core->stats().preemptions, 0);
  EXPECT_GT(harness.core->stats().prefix_evictions, 19 * 8);
}

}  // namespace
}  // namespace sentencekv
