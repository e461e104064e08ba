// Random schedules against each request run alone: whatever runs beside a
// request or ran before it, however its prompt is cut, however much of it is
// reused, however often it is preempted and however slowly it is read, its
// tokens and its text are the same.
#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/engine/core_harness.h"

namespace sentencekv {
namespace {

GenerateRequest RandomRequest(std::mt19937& random, int number,
                              int64_t max_prompt) {
  GenerateRequest request;
  request.request_id = "r" + std::to_string(number);
  // A piece of one of three documents, then tokens of its own.
  const int64_t prompt_tokens = 1 + random() % max_prompt;
  const int64_t shared_tokens = random() % 4 == 0 ? 0 : random() % 200;
  const int64_t document = random() % 3;
  for (int64_t i = 0; i < prompt_tokens; ++i) {
    request.prompt.push_back(
        i < shared_tokens ? (i * 7 + i / 5 + document) % 256 : random() % 256);
  }
  if (random() % 8 == 0) request.kv.cache_salt = "salt";
  request.kv.bypass_prefix_cache = random() % 10 == 0;
  request.sampling.temperature = random() % 2 == 0 ? 0.0f : 1.3f;
  request.sampling.seed = random();
  if (random() % 4 == 0) request.sampling.top_k = 1 + random() % 40;
  if (random() % 4 == 0) request.sampling.top_p = 0.8f;
  if (random() % 4 == 0) request.sampling.repetition_penalty = 1.3f;
  if (random() % 4 == 0) request.sampling.frequency_penalty = 0.2f;
  request.stop.max_tokens = random() % 8 == 0 ? 0 : 1 + random() % 60;
  if (random() % 3 == 0) request.stop.min_tokens = random() % 10;
  if (random() % 3 == 0) request.stop.stop_strings = {"a", "\x03\x04"};
  if (random() % 3 == 0) request.stop.stop_token_ids = {7, 8, 9};
  request.stop.ignore_eos = random() % 2 == 0;
  request.output.echo = random() % 4 == 0;
  request.output.prompt_logprobs = random() % 4 == 0;
  if (random() % 4 == 0) request.output.num_logprobs = random() % 4;
  return request;
}

HarnessOptions RandomOptions(std::mt19937& random) {
  HarnessOptions options;
  options.num_pages = 8 + random() % 30;
  options.engine.max_step_tokens = 2 + random() % 70;
  options.engine.max_prefill_tokens_beside_decode = 1 + random() % 40;
  options.engine.max_running = 1 + random() % 12;
  options.engine.outbox_capacity = 1 + random() % 20;
  options.model.max_tokens_per_step = 2 + random() % 100;
  options.model.max_logits_per_step = 2 + random() % 20;
  options.prefixes.enabled = random() % 8 != 0;
  if (random() % 8 == 0) {
    options.prefixes.hash = [](uint64_t, std::span<const int32_t> tokens) {
      return static_cast<uint64_t>(tokens[0] % 2);  // collides nearly always
    };
  }
  return options;
}

Collected RunAlone(const GenerateRequest& request, int64_t context_length) {
  HarnessOptions options;
  options.model.context_length = context_length;
  options.engine.outbox_capacity = 100000;
  CoreHarness harness(options);
  auto stream = harness.Submit(request);
  harness.RunUntilIdle();
  Collected alone;
  alone.Read(*stream);
  return alone;
}

void ExpectSameAnswer(const Collected& got, const Collected& alone) {
  EXPECT_EQ(got.ids, alone.ids);
  EXPECT_EQ(got.text, alone.text);
  EXPECT_EQ(got.finish->reason, alone.finish->reason);
  EXPECT_EQ(got.finish->stop_string, alone.finish->stop_string);
  EXPECT_EQ(got.finish->stop_token_id, alone.finish->stop_token_id);
  EXPECT_EQ(got.finish->usage.generated_tokens,
            static_cast<int64_t>(got.ids.size()));
  ASSERT_EQ(got.prompt_logprobs.size(), alone.prompt_logprobs.size());
  for (size_t i = 0; i < got.prompt_logprobs.size(); ++i) {
    EXPECT_EQ(got.prompt_logprobs[i].token_id,
              alone.prompt_logprobs[i].token_id);
    EXPECT_EQ(got.prompt_logprobs[i].logprob, alone.prompt_logprobs[i].logprob);
  }
  for (size_t i = 0; i < std::min(got.tokens.size(), alone.tokens.size());
       ++i) {
    EXPECT_EQ(got.tokens[i].logprob, alone.tokens[i].logprob);
  }
}

// What a cancelled or late request gave is the beginning of what it would have
// given.
void ExpectBeginningOf(const Collected& got, const Collected& alone) {
  ASSERT_LE(got.ids.size(), alone.ids.size());
  EXPECT_TRUE(std::equal(got.ids.begin(), got.ids.end(), alone.ids.begin()));
}

// One request of a random trace.
struct Client {
  GenerateRequest request;
  std::shared_ptr<TokenStream> stream;
  Collected got;
  int submit_step = 0;
  int cancel_step = -1;
  int read_every = 1;  // steps between reads: a slow reader fills its outbox
};

// Adds the counts of the trace to *totals.
void RunTrace(uint32_t seed, EngineStats* totals) {
  std::mt19937 random(seed);
  const HarnessOptions options = RandomOptions(random);
  CoreHarness harness(options);
  std::vector<Client> clients(2 + random() % 14);
  for (size_t i = 0; i < clients.size(); ++i) {
    Client& client = clients[i];
    // Half of the pool's tokens: pages run out while they decode.
    client.request = RandomRequest(random, static_cast<int>(i),
                                   options.num_pages * kPageTokens / 2);
    client.submit_step = random() % 40;
    client.read_every = random() % 4 == 0 ? 1 + random() % 30 : 1;
    if (random() % 4 == 0) client.cancel_step = random() % 120;
    if (random() % 6 == 0) {
      client.request.deadline =
          harness.clock.Now() + absl::Milliseconds(41 + random() % 200);
    }
  }

  size_t num_finished = 0;
  for (int step = 0; num_finished < clients.size(); ++step) {
    ASSERT_LT(step, 20000) << "a request starves";
    for (Client& client : clients) {
      if (client.submit_step == step) {
        client.stream = harness.Submit(client.request);
      }
      if (client.stream == nullptr) continue;
      if (client.cancel_step == step) client.stream->Cancel();
      if (step % client.read_every == 0) {
        const bool was_open = !client.got.finish.has_value();
        client.got.Read(*client.stream);
        if (was_open && client.got.finish.has_value()) ++num_finished;
      }
    }
    harness.Step();
    harness.clock.Advance(absl::Milliseconds(1));
  }

  harness.RunUntilIdle();
  const EngineStats stats = harness.core->stats();
  totals->prefix_hit_tokens += stats.prefix_hit_tokens;
  totals->prefix_evictions += stats.prefix_evictions;
  totals->preemptions += stats.preemptions;
  EXPECT_EQ(harness.pool->stats().used, 0);
  EXPECT_EQ(stats.waiting, 0);
  EXPECT_EQ(harness.core->stats().waiting_tokens, 0);
  EXPECT_EQ(harness.finished.size(), clients.size());
  EXPECT_TRUE(harness.queue->AwaitIdle(absl::ZeroDuration()));
  for (Client& client : clients) {
    SCOPED_TRACE(client.request.request_id);
    client.got.Read(*client.stream);
    ASSERT_EQ(client.got.num_finishes, 1);
    GenerateRequest undisturbed = client.request;
    undisturbed.deadline = absl::InfiniteFuture();
    const Collected alone = RunAlone(undisturbed, harness.max_request_tokens);
    const Usage& usage = client.got.finish->usage;
    EXPECT_LT(usage.cached_tokens, usage.prompt_tokens);
    if (client.request.kv.bypass_prefix_cache ||
        client.request.output.prompt_logprobs) {
      EXPECT_EQ(usage.cached_tokens, 0);
    }
    switch (client.got.finish->reason) {
      case FinishReason::kStop:
      case FinishReason::kLength:
        ExpectSameAnswer(client.got, alone);
        break;
      case FinishReason::kCancelled:
        EXPECT_GE(client.cancel_step, 0);
        ExpectBeginningOf(client.got, alone);
        break;
      case FinishReason::kDeadline:
        EXPECT_LT(client.request.deadline, absl::InfiniteFuture());
        ExpectBeginningOf(client.got, alone);
        break;
      case FinishReason::kError:
        ADD_FAILURE() << client.got.finish->status;
    }
  }
}

class EngineProperty : public ::testing::TestWithParam<uint32_t> {};

TEST_P(EngineProperty, EachRequestIsAnsweredAsIfAlone) {
  EngineStats totals;
  for (uint32_t seed = GetParam(); seed < GetParam() + 50; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    RunTrace(seed, &totals);
    if (HasFailure()) return;
  }
  // The traces are only worth something if they do all this.
  EXPECT_GT(totals.prefix_hit_tokens, 1000);
  EXPECT_GT(totals.prefix_evictions, 100);
  EXPECT_GT(totals.preemptions, 10);
}

INSTANTIATE_TEST_SUITE_P(Seeds, EngineProperty,
                         ::testing::Range(1u, 401u, 50u));

// The traces above are only worth something if they do preempt.
TEST(EngineTraces, TinyPoolsPreempt) {
  HarnessOptions options;
  options.num_pages = 6;
  CoreHarness harness(options);
  std::vector<std::shared_ptr<TokenStream>> streams;
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 4; ++i) {
    requests.push_back(GreedyRequest("r" + std::to_string(i), 10 + i, 40));
    requests.back().sampling.temperature = 1.0f;
    streams.push_back(harness.Submit(requests.back()));
  }
  harness.RunUntilIdle();
  EXPECT_GT(harness.core->stats().preemptions, 0);
  int64_t reported = 0;
  for (size_t i = 0; i < streams.size(); ++i) {
    Collected got;
    got.Read(*streams[i]);
    ExpectSameAnswer(got, RunAlone(requests[i], harness.max_request_tokens));
    reported += got.finish->usage.preemptions;
  }
  EXPECT_EQ(reported, harness.core->stats().preemptions);
  EXPECT_EQ(harness.pool->stats().used, 0);
}

// Forward number n fails, for every n: who was in that step ends with its
// status, the others get their whole answer, nothing leaks.
TEST(EngineFaults, AFailingStepEndsOnlyThoseInIt) {
  HarnessOptions options;
  options.num_pages = 7;
  options.engine.max_step_tokens = 24;
  options.engine.max_running = 3;
  auto make_requests = [] {
    std::vector<GenerateRequest> requests;
    for (int i = 0; i < 5; ++i) {
      requests.push_back(GreedyRequest("r" + std::to_string(i), 9 + 7 * i, 12));
    }
    return requests;
  };
  std::vector<Collected> alone;
  for (const GenerateRequest& request : make_requests()) {
    alone.push_back(RunAlone(request, options.num_pages * kPageTokens));
  }
  // As many as there are when none fails.
  int64_t num_forwards = 0;
  {
    CoreHarness harness(options);
    for (GenerateRequest& request : make_requests()) {
      harness.Submit(std::move(request));
    }
    harness.RunUntilIdle();
    num_forwards = harness.model.num_forwards();
  }
  for (int64_t n = 0; n < num_forwards; ++n) {
    SCOPED_TRACE(testing::Message() << "forward " << n << " fails");
    CoreHarness harness(options);
    harness.model.FailForward(n, absl::DataLossError("the device is gone"));
    size_t num_failing = 0;
    harness.model.set_on_forward([&](auto batch) {
      // The counter has already moved on to the next call.
      if (harness.model.num_forwards() - 1 == n) num_failing = batch.size();
    });
    std::vector<std::shared_ptr<TokenStream>> streams;
    for (GenerateRequest& request : make_requests()) {
      streams.push_back(harness.Submit(std::move(request)));
    }
    harness.RunUntilIdle();
    size_t num_failed = 0;
    for (size_t i = 0; i < streams.size(); ++i) {
      Collected got;
      got.Read(*streams[i]);
      ASSERT_EQ(got.num_finishes, 1);
      if (got.finish->reason == FinishReason::kError) {
        EXPECT_EQ(got.finish->status.code(), absl::StatusCode::kDataLoss);
        ExpectBeginningOf(got, alone[i]);
        ++num_failed;
      } else {
        ExpectSameAnswer(got, alone[i]);
      }
    }
    EXPECT_EQ(num_failed, num_failing);
    EXPECT_GE(num_failed, 1u);
    EXPECT_EQ(harness.pool->stats().used, 0);
    EXPECT_EQ(harness.core->stats().running, 0);
  }
  EXPECT_GT(num_forwards, 12);
}

// Cancel before step k, for every k of a request's life, alone and among
// others: it ends within that step, and its pages are free again.
TEST(EngineFaults, CancelEndsARequestWithinOneStepAtEveryPoint) {
  for (const int others : {0, 3}) {
    for (int cancel_step = 0; cancel_step < 40; ++cancel_step) {
      SCOPED_TRACE(testing::Message() << others << " others, cancelled before "
                                      << "step " << cancel_step);
      HarnessOptions options;
      options.num_pages = 10;
      options.engine.max_step_tokens = 16;
      CoreHarness harness(options);
      const auto beside = SubmitGreedy(harness, others, 30, 20);
      auto stream = harness.Submit(GreedyRequest("victim", 60, 20));
      for (int step = 0; step < cancel_step; ++step) harness.Step();
      Collected got;
      got.Read(*stream);
      const bool was_over = got.finish.has_value();
      stream->Cancel();
      harness.Step();
      got.Read(*stream);
      ASSERT_TRUE(got.finish.has_value());
      EXPECT_EQ(got.num_finishes, 1);
      if (!was_over) {
        EXPECT_EQ(got.finish->reason, FinishReason::kCancelled);
        EXPECT_EQ(got.finish->status.code(), absl::StatusCode::kCancelled);
      }
      if (others == 0) {
        EXPECT_EQ(harness.pool->stats().used, 0);
      }
      harness.RunUntilIdle();
      EXPECT_EQ(harness.pool->stats().used, 0);
      for (const auto& other : beside) {
        Collected answer;
        answer.Read(*other);
        EXPECT_EQ(answer.finish->reason, FinishReason::kLength);
        EXPECT_EQ(answer.ids.size(), 20u);
      }
    }
  }
}

// A stream of short requests never keeps a long one at the head from its pages.
TEST(EngineFairness, ALongRequestIsNotOvertakenForEver) {
  HarnessOptions options;
  options.num_pages = 12;
  options.engine.max_running = 8;
  options.engine.max_step_tokens = 64;
  CoreHarness harness(options);
  std::vector<std::shared_ptr<TokenStream>> streams;
  int number = 0;
  auto submit_short = [&] {
    streams.push_back(
        harness.Submit(GreedyRequest("s" + std::to_string(number++), 20, 12)));
  };
  for (int i = 0; i < 5; ++i) submit_short();
  for (int i = 0; i < 3; ++i) harness.Step();
  auto long_stream = harness.Submit(GreedyRequest("long", 150, 5));
  Collected long_answer;
  int steps = 0;
  while (!long_answer.finish.has_value()) {
    ASSERT_LT(++steps, 200) << "the long request starves";
    if (steps % 2 == 0) submit_short();
    harness.Step();
    long_answer.Read(*long_stream);
  }
  EXPECT_EQ(long_answer.finish->reason, FinishReason::kLength);
  harness.RunUntilIdle();
}

// Short prompts do not wait for a long one that came before, and the long one
// keeps at least half of the prefill.
TEST(EngineFairness, PromptsShareThePrefill) {
  HarnessOptions options;
  options.engine.max_step_tokens = 20;
  CoreHarness harness(options);
  auto long_stream = harness.Submit(GreedyRequest("long", 400, 1));
  harness.Step();
  auto short_stream = harness.Submit(GreedyRequest("short", 15, 1));
  Collected answer;
  for (int step = 0; step < 2; ++step) harness.Step();
  answer.Read(*short_stream);
  EXPECT_TRUE(answer.finish.has_value());
  int steps = 3;
  Collected long_answer;
  while (!long_answer.finish.has_value()) {
    ASSERT_LT(++steps, 45);
    harness.Step();
    long_answer.Read(*long_stream);
  }
}

}  // namespace
}  // namespace sentencekv
