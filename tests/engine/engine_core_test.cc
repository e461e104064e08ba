#include "engine/engine_core.h"

#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/core_harness.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;

Collected AnswerOf(CoreHarness& harness, GenerateRequest request) {
  auto stream = harness.Submit(std::move(request));
  harness.RunUntilIdle();
  Collected got;
  got.Read(*stream);
  return got;
}

TEST(EngineCore, DoesNothingWhenThereIsNothing) {
  CoreHarness harness;
  EXPECT_FALSE(harness.Step());
  EXPECT_EQ(harness.core->NextDeadline(), absl::InfiniteFuture());
  EXPECT_EQ(harness.model.num_forwards(), 0);
}

TEST(EngineCore, CutsAPromptIntoChunksAndSamplesAfterTheLast) {
  HarnessOptions options;
  options.engine.max_step_tokens = 32;
  CoreHarness harness(options);
  std::vector<std::pair<size_t, int64_t>> batches;  // tokens, logits
  harness.model.set_on_forward([&](std::span<const ForwardSequence> batch) {
    ASSERT_EQ(batch.size(), 1u);
    batches.push_back({batch[0].tokens.size(), batch[0].num_logits});
  });
  const Collected got = AnswerOf(harness, GreedyRequest("a", 70, 3));
  EXPECT_EQ(got.ids.size(), 3u);
  const std::vector<std::pair<size_t, int64_t>> expected = {
      {32, 0}, {32, 0}, {6, 1}, {1, 1}, {1, 1}};
  EXPECT_EQ(batches, expected);
}

TEST(EngineCore, DecodesEveryoneInAStepAndStreamsBesideALongPrompt) {
  HarnessOptions options;
  options.engine.max_prefill_tokens_beside_decode = 16;
  CoreHarness harness(options);
  const auto streams = SubmitGreedy(harness, 3, 4, 100);
  harness.Step();
  harness.Step();
  harness.Submit(GreedyRequest("long", 300, 1));
  harness.steps.clear();
  for (int i = 0; i < 20; ++i) harness.Step();
  int mixed = 0;
  for (const StepStats& step : harness.steps) {
    EXPECT_EQ(step.decode_tokens, 3) << "no step leaves a decoding one out";
    EXPECT_LE(step.prefill_tokens, 16);
    mixed += step.prefill_tokens > 0;
  }
  EXPECT_GE(mixed, 18) << "two decode-only steps at most, to measure";
}

TEST(EngineCore, ReportsUsageByTheClock) {
  CoreHarness harness;
  harness.model.set_on_forward(
      [&](auto) { harness.clock.Advance(absl::Milliseconds(10)); });
  auto stream = harness.Submit(GreedyRequest("a", 5, 4));
  harness.clock.Advance(absl::Milliseconds(7));
  harness.RunUntilIdle();
  Collected got;
  got.Read(*stream);
  const Usage& usage = got.finish->usage;
  EXPECT_EQ(usage.prompt_tokens, 5);
  EXPECT_EQ(usage.generated_tokens, 4);
  EXPECT_EQ(usage.queue_time, absl::Milliseconds(7));
  EXPECT_EQ(usage.prefill_time, absl::Milliseconds(10));
  EXPECT_EQ(usage.total_time, absl::Milliseconds(47));
  EXPECT_EQ(harness.first_tokens,
            std::vector<absl::Duration>{absl::Milliseconds(17)});
  EXPECT_EQ(harness.inter_tokens,
            std::vector<absl::Duration>(3, absl::Milliseconds(10)));
  ASSERT_EQ(harness.steps.size(), 4u);
  EXPECT_EQ(harness.steps[0].prefill_tokens, 5);
  EXPECT_EQ(harness.steps[0].forward_time, absl::Milliseconds(10));
  EXPECT_EQ(harness.steps[1].decode_tokens, 1);
  EXPECT_EQ(harness.steps[1].sequences, 1);
}

TEST(EngineCore, EndsAtTheContextsEnd) {
  HarnessOptions options;
  options.model.context_length = 40;
  CoreHarness harness(options);
  const Collected got = AnswerOf(harness, GreedyRequest("a", 30, 0));
  EXPECT_EQ(got.ids.size(), 10u);
  EXPECT_EQ(got.finish->reason, FinishReason::kLength);
}

TEST(EngineCore, FillsAPoolThatIsSmallerThanTheContext) {
  HarnessOptions options;
  options.num_pages = 3;
  CoreHarness harness(options);
  EXPECT_EQ(harness.max_request_tokens, 48);
  const Collected got = AnswerOf(harness, GreedyRequest("a", 47, 0));
  EXPECT_EQ(got.ids.size(), 1u);
  EXPECT_EQ(got.finish->reason, FinishReason::kLength);
}

TEST(EngineCore, NanEndsOnlyTheRequestThatHasIt) {
  CoreHarness harness;
  const auto hash = ScriptedModel::HashLogits(1);
  harness.model.set_logits(
      [&](std::span<const int32_t> history, std::span<float> logits) {
        hash(history, logits);
        if (history[0] == 66 && history.size() > 6) logits[9] = std::nanf("");
      });
  GenerateRequest bad = GreedyRequest("bad", 4, 10);
  bad.prompt[0] = 66;
  auto good_stream = harness.Submit(GreedyRequest("good", 4, 10));
  auto bad_stream = harness.Submit(bad);
  harness.RunUntilIdle();
  Collected good_answer;
  Collected bad_answer;
  good_answer.Read(*good_stream);
  bad_answer.Read(*bad_stream);
  EXPECT_EQ(good_answer.ids.size(), 10u);
  EXPECT_EQ(good_answer.finish->reason, FinishReason::kLength);
  EXPECT_EQ(bad_answer.ids.size(), 3u);
  EXPECT_EQ(bad_answer.finish->reason, FinishReason::kError);
  EXPECT_EQ(bad_answer.finish->status.code(), absl::StatusCode::kInternal);
}

TEST(EngineCore, DeadlinesEndRequestsInQueuePrefillAndDecode) {
  HarnessOptions options;
  options.engine.max_step_tokens = 16;
  options.engine.max_running = 2;
  CoreHarness harness(options);
  harness.model.set_on_forward(
      [&](auto) { harness.clock.Advance(absl::Milliseconds(10)); });
  const absl::Time start = harness.clock.Now();
  struct Case {
    const char* id;
    int64_t prompt_tokens;
    absl::Duration deadline;
    size_t tokens_low, tokens_high;
  };
  const Case cases[] = {
      {"decoding", 4, absl::Milliseconds(55), 3, 6},
      {"prefilling", 300, absl::Milliseconds(65), 0, 0},
      {"queued", 4, absl::Milliseconds(25), 0, 0},
  };
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (const Case& c : cases) {
    GenerateRequest request = GreedyRequest(c.id, c.prompt_tokens, 100);
    request.deadline = start + c.deadline;
    streams.push_back(harness.Submit(request));
  }
  harness.RunUntilIdle();
  for (size_t i = 0; i < streams.size(); ++i) {
    SCOPED_TRACE(cases[i].id);
    Collected got;
    got.Read(*streams[i]);
    EXPECT_EQ(got.finish->reason, FinishReason::kDeadline);
    EXPECT_EQ(got.finish->status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_GE(got.ids.size(), cases[i].tokens_low);
    EXPECT_LE(got.ids.size(), cases[i].tokens_high);
    // Within one step of the deadline.
    EXPECT_LE(got.finish->usage.total_time,
              cases[i].deadline + absl::Milliseconds(10));
  }
  EXPECT_EQ(harness.pool->stats().used, 0);
  EXPECT_EQ(harness.core->stats().waiting, 0);
}

TEST(EngineCore, NextDeadlineIsTheEarliest) {
  CoreHarness harness;
  GenerateRequest request = GreedyRequest("a", 4, 100);
  request.deadline = harness.clock.Now() + absl::Seconds(9);
  harness.Submit(request);
  request.request_id = "b";
  request.deadline = harness.clock.Now() + absl::Seconds(5);
  harness.Submit(request);
  harness.Step();
  EXPECT_EQ(harness.core->NextDeadline(),
            harness.clock.Now() + absl::Seconds(5));
}

TEST(EngineCore, HoldsAReaderThatLagsAndGoesOnWhenItReads) {
  HarnessOptions options;
  options.engine.outbox_capacity = 4;
  options.engine.outbox_timeout = absl::Seconds(30);
  CoreHarness harness(options);
  auto stream = harness.Submit(GreedyRequest("slow", 4, 20));
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(harness.Step());
  EXPECT_FALSE(harness.Step()) << "nothing to do: the engine may sleep";
  EXPECT_FALSE(harness.Step());
  EXPECT_EQ(harness.model.num_forwards(), 4);
  EXPECT_EQ(harness.core->NextDeadline(),
            harness.clock.Now() + absl::Seconds(30));
  Collected got;
  got.Read(*stream, 1);
  EXPECT_TRUE(harness.Step());
  EXPECT_FALSE(harness.Step());
  EXPECT_EQ(harness.model.num_forwards(), 5);
  while (!got.finish.has_value()) {
    got.Read(*stream);
    harness.Step();
  }
  EXPECT_EQ(got.ids.size(), 20u);
}

TEST(EngineCore, AbortsAReaderThatNeverReads) {
  HarnessOptions options;
  options.engine.outbox_capacity = 2;
  options.engine.outbox_timeout = absl::Seconds(30);
  CoreHarness harness(options);
  auto dead = harness.Submit(GreedyRequest("dead", 4, 20));
  auto alive = harness.Submit(GreedyRequest("alive", 4, 20));
  Collected alive_answer;
  for (int i = 0; i < 40; ++i) {
    harness.Step();
    alive_answer.Read(*alive);
  }
  EXPECT_EQ(alive_answer.ids.size(), 20u) << "neighbours are not held back";
  harness.clock.Advance(absl::Seconds(29));
  EXPECT_FALSE(harness.Step());
  harness.clock.Advance(absl::Seconds(1));
  EXPECT_TRUE(harness.Step());
  EXPECT_EQ(harness.pool->stats().used, 0);
  Collected got;
  got.Read(*dead);
  EXPECT_EQ(got.ids.size(), 2u);
  EXPECT_EQ(got.finish->reason, FinishReason::kError);
  EXPECT_EQ(got.finish->status.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(std::string(got.finish->status.message()), HasSubstr("30s"));
}

// The last page of a request that is held back is not given away, and the one
// that needs it waits without spinning.
TEST(EngineCore, WaitsForPagesThatAHeldRequestHas) {
  HarnessOptions options;
  options.num_pages = 4;
  options.engine.outbox_capacity = 1;
  CoreHarness harness(options);
  auto held = harness.Submit(GreedyRequest("held", 40, 20));
  auto other = harness.Submit(GreedyRequest("other", 30, 4));
  Collected other_answer;
  for (int i = 0; i < 20; ++i) {
    harness.Step();
    other_answer.Read(*other);
  }
  EXPECT_FALSE(harness.Step());
  EXPECT_TRUE(other_answer.ids.empty());
  Collected held_answer;
  for (int i = 0; i < 60; ++i) {
    held_answer.Read(*held);
    other_answer.Read(*other);
    harness.Step();
  }
  EXPECT_EQ(held_answer.ids.size(), 20u);
  EXPECT_EQ(other_answer.ids.size(), 4u);
}

TEST(EngineCore, ScoresThePromptWhateverTheChunk) {
  const auto hash = ScriptedModel::HashLogits(1);
  GenerateRequest request = GreedyRequest("a", 50, 2);
  request.output.prompt_logprobs = true;
  request.output.num_logprobs = 2;
  std::vector<float> expected;
  for (size_t i = 1; i < request.prompt.size(); ++i) {
    std::vector<float> logits(260);
    hash(std::span<const int32_t>(request.prompt).first(i), logits);
    expected.push_back(*LogprobOf(logits, request.prompt[i]));
  }
  for (const int64_t max_logits : {2, 3, 16, 64}) {
    for (const int64_t max_tokens : {2, 7, 256}) {
      HarnessOptions options;
      options.model.max_logits_per_step = max_logits;
      options.engine.max_step_tokens = max_tokens;
      CoreHarness harness(options);
      // Others take rows of logits too.
      harness.Submit(GreedyRequest("beside", 3, 30));
      const Collected got = AnswerOf(harness, request);
      ASSERT_EQ(got.prompt_logprobs.size(), expected.size());
      for (size_t i = 0; i < expected.size(); ++i) {
        EXPECT_EQ(got.prompt_logprobs[i].token_id, request.prompt[i + 1]);
        EXPECT_EQ(got.prompt_logprobs[i].logprob, expected[i]);
      }
      ASSERT_EQ(got.tokens.size(), 2u);
      EXPECT_EQ(got.tokens[0].top_logprobs.size(), 2u);
      EXPECT_EQ(got.tokens[0].top_logprobs[0].token_id, got.ids[0]);
    }
  }
}

// More decoding requests than fit in a step take turns.
TEST(EngineCore, DecodingRequestsTakeTurnsWhenAStepIsTooSmall) {
  HarnessOptions options;
  options.engine.max_step_tokens = 3;
  CoreHarness harness(options);
  const auto streams = SubmitGreedy(harness, 7, 1, 200);
  for (int i = 0; i < 100; ++i) harness.Step();
  for (const auto& stream : streams) {
    Collected got;
    got.Read(*stream);
    EXPECT_GT(got.ids.size(), 25u);
  }
}

TEST(EngineCore, EndAllEndsEveryState) {
  HarnessOptions options;
  options.engine.max_running = 2;
  options.engine.max_step_tokens = 16;
  CoreHarness harness(options);
  std::vector<std::shared_ptr<TokenStream>> streams;
  streams.push_back(harness.Submit(GreedyRequest("decoding", 4, 100)));
  streams.push_back(harness.Submit(GreedyRequest("prefilling", 300, 100)));
  streams.push_back(harness.Submit(GreedyRequest("waiting", 4, 100)));
  for (int i = 0; i < 5; ++i) harness.Step();
  streams.push_back(harness.Submit(GreedyRequest("in the inbox", 4, 100)));
  harness.core->EndAll(absl::CancelledError("the server stopped"));
  for (const auto& stream : streams) {
    Collected got;
    got.Read(*stream);
    EXPECT_EQ(got.finish->reason, FinishReason::kCancelled);
    EXPECT_EQ(got.finish->status.message(), "the server stopped");
  }
  EXPECT_EQ(harness.pool->stats().used, 0);
  EXPECT_TRUE(harness.queue->AwaitIdle(absl::ZeroDuration()));
}

}  // namespace
}  // namespace sentencekv
