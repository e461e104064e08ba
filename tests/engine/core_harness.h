// An engine without its thread: tests run it step by step.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine_core.h"
#include "gtest/gtest.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/fake_clock.h"
#include "tests/support/memory_backend.h"
#include "tests/support/scripted_model.h"

namespace sentencekv {

// Everything that one request's stream gave.
struct Collected {
  std::string text;
  std::vector<int32_t> ids;
  std::vector<GeneratedToken> tokens;
  std::vector<TokenLogprob> prompt_logprobs;
  int num_events = 0;
  int num_finishes = 0;
  std::optional<Finish> finish;

  // Takes up to `max_events` that are there.
  void Read(TokenStream& stream, int max_events = INT32_MAX) {
    for (int i = 0; i < max_events; ++i) {
      std::optional<StreamEvent> event = stream.TryPop();
      if (!event.has_value()) return;
      Add(*std::move(event));
    }
  }
  void Add(StreamEvent event) {
    ++num_events;
    text += event.text;
    for (GeneratedToken& token : event.tokens) {
      ids.push_back(token.id);
      tokens.push_back(std::move(token));
    }
    prompt_logprobs.insert(prompt_logprobs.end(), event.prompt_logprobs.begin(),
                           event.prompt_logprobs.end());
    if (event.finish.has_value()) {
      ++num_finishes;
      finish = std::move(event.finish);
    }
  }
};

struct HarnessOptions {
  int64_t num_pages = 64;
  LlmEngineOptions engine;
  ScriptedModelOptions model;
  PrefixCacheOptions prefixes;
};

// After every step the invariants of pool and prefix cache are checked, and the
// pool's pages counted against those that requests hold.
class CoreHarness final : public EngineObserver {
 public:
  explicit CoreHarness(const HarnessOptions& options = {})
      : model(options.model),
        pool(*PagePool::Create(backend,
                               ScriptedModel::Layout(options.num_pages))),
        memory(MakeInPlaceKvMemory(*pool)),
        cache(*KvCache::Create(*memory, "full", {.tokenizer = &tokenizer},
                               options.prefixes)),
        queue(std::make_shared<RequestQueue>(
            RequestQueueLimits{options.engine.max_waiting,
                               options.engine.max_waiting_tokens,
                               options.engine.outbox_capacity},
            clock)),
        max_request_tokens(std::min(options.model.context_length,
                                    options.num_pages * kPageTokens)),
        core(std::make_unique<EngineCore>(
            options.engine, max_request_tokens,
            EngineParts{model, tokenizer, *cache, clock, *queue, this})) {}
  ~CoreHarness() override {
    core->EndAll(absl::CancelledError("the test is over"));
  }

  std::shared_ptr<TokenStream> Submit(GenerateRequest request) {
    if (!request.sampling.seed.has_value()) request.sampling.seed = 1;
    RefusalReason reason;
    auto stream = queue->Push(std::move(request), &reason);
    EXPECT_TRUE(stream.ok()) << stream.status();
    return *std::move(stream);
  }

  bool Step() {
    const bool stepped = core->Step();
    pool->CheckInvariantsForTest();
    if (cache->prefixes() != nullptr) {
      cache->prefixes()->CheckInvariantsForTest();
    }
    return stepped;
  }
  // Steps until nothing is to do; fails the test when that takes for ever.
  void RunUntilIdle(int max_steps = 100000) {
    while (Step()) ASSERT_GT(max_steps--, 0) << "no end";
  }

  void OnStep(const StepStats& step, const EngineStats& stats) override {
    steps.push_back(step);
    EXPECT_EQ(stats.pages_free + stats.pages_used, stats.pages_total);
    EXPECT_LE(stats.pages_cached, stats.pages_free);
  }
  void OnFinished(const Finish& finish) override {
    finished.push_back(finish.reason);
  }
  void OnFirstToken(absl::Duration since_submitted) override {
    first_tokens.push_back(since_submitted);
  }
  void OnInterToken(absl::Duration since_previous) override {
    inter_tokens.push_back(since_previous);
  }

  MemoryBackend backend;
  FakeClock clock;
  ByteTokenizer tokenizer;
  ScriptedModel model;
  std::unique_ptr<PagePool> pool;
  std::unique_ptr<KvMemory> memory;
  std::unique_ptr<KvCache> cache;
  std::shared_ptr<RequestQueue> queue;
  const int64_t max_request_tokens;
  std::unique_ptr<EngineCore> core;
  std::vector<StepStats> steps;
  std::vector<FinishReason> finished;
  std::vector<absl::Duration> first_tokens;
  std::vector<absl::Duration> inter_tokens;
};

// A greedy request for `max_tokens` tokens that no stop token ends.
inline GenerateRequest GreedyRequest(std::string id, int64_t prompt_tokens,
                                     int32_t max_tokens) {
  GenerateRequest request;
  request.request_id = std::move(id);
  for (int64_t i = 0; i < prompt_tokens; ++i) {
    request.prompt.push_back(static_cast<int32_t>((i * 37 + 11) % 256));
  }
  request.sampling.temperature = 0;
  request.stop.max_tokens = max_tokens;
  request.stop.ignore_eos = true;
  return request;
}

// Submits so many of them, named 0, 1, ...
inline std::vector<std::shared_ptr<TokenStream>> SubmitGreedy(
    CoreHarness& harness, int count, int64_t prompt_tokens,
    int32_t max_tokens) {
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int i = 0; i < count; ++i) {
    streams.push_back(harness.Submit(
        GreedyRequest(std::to_string(i), prompt_tokens, max_tokens)));
  }
  return streams;
}

}  // namespace sentencekv
