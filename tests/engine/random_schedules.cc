#include "tests/engine/random_schedules.h"

#include <algorithm>
#include <utility>

#include "cache/kv_cache.h"
#include "gtest/gtest.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

const std::string& ModelPath() {
  static const std::string path =
      WriteTinyGguf(MakeTinyModel({.context_length = kScheduleContext}));
  return path;
}

}  // namespace

Schedule ScheduleMaker::Make() {
  Schedule schedule;
  schedule.engine.max_step_tokens = Between(8, 128);
  schedule.engine.max_running = Between(1, 4);
  const int64_t count = Between(2, 5);
  for (int64_t i = 0; i < count; ++i) {
    Arrival arrival;
    arrival.step = static_cast<int>(Between(0, 15));
    if (Between(0, 3) == 0) {
      arrival.cancelled = static_cast<int>(Between(0, 20));
    }
    arrival.request = Request(std::to_string(i));
    schedule.arrivals.push_back(std::move(arrival));
  }
  return schedule;
}

int64_t ScheduleMaker::Between(int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random_);
}

GenerateRequest ScheduleMaker::Request(std::string id) {
  GenerateRequest request =
      GreedyRequest(std::move(id), 1, static_cast<int32_t>(Between(1, 30)));
  request.prompt = Text(Between(20, 200));
  request.output.num_logprobs = 0;
  request.kv = Options();
  return request;
}

std::vector<int32_t> ScheduleMaker::Text(int64_t num_tokens) {
  std::string text;
  const int64_t first = Between(0, 1);
  const int64_t alike = Between(0, num_tokens);
  for (int64_t i = first; std::ssize(text) < num_tokens; ++i) {
    const bool differs = std::ssize(text) > alike;
    text += (differs ? std::to_string(Between(0, 999)) : "Ship ") +
            std::to_string(i * i) + " sails" + (i % 3 == 0 ? " far. " : ". ");
  }
  text.resize(static_cast<size_t>(num_tokens));
  return {text.begin(), text.end()};
}

KvOptions ScheduleMaker::Options() {
  KvOptions options;
  switch (Between(0, 4)) {
    case 0:
      options.policy = "full";
      return options;
    case 1:
      options.policy = "sentence-paper";
      options.token_budget = Between(65, 100);
      options.semantic_factor = 1.5;
      return options;
    case 2:
      options.index_kind = SentenceIndexKind::kSign;
      break;
    case 3:
      options.index_kind = SentenceIndexKind::kMinMax;
      options.prior = false;
      break;
    default:
      options.query_blend = 0.5;
      options.reuse_bonus = 1;
      break;
  }
  options.policy = "sentence";
  options.token_budget = Between(1, 80);
  options.recent_tokens = Between(1, 40);
  options.dense_tokens = 0;
  options.strict = Between(0, 1) == 0;
  return options;
}

ScheduleMachine::ScheduleMachine(const ModelRunnerOptions& options)
    : runner_(ModelPath(), options) {}

std::vector<Collected> ScheduleMachine::Run(const Schedule& schedule) {
  const ModelInfo& info = runner_.model().info();
  const auto cache =
      *KvCache::Create(runner_.memory(), "full",
                       {.tokenizer = &tokenizer_,
                        .shape = {.num_layers = info.num_layers,
                                  .num_heads = info.num_heads,
                                  .num_kv_heads = info.num_kv_heads,
                                  .head_dim = info.head_dim}});
  RequestQueue queue({.max_waiting = 100}, clock_);
  EngineCore core(schedule.engine, kScheduleContext,
                  {runner_.model(), tokenizer_, *cache, clock_, queue});
  std::vector<std::shared_ptr<TokenStream>> streams(schedule.arrivals.size());
  std::vector<Collected> answers(schedule.arrivals.size());
  bool is_idle = false;
  for (int step = 0; step <= 60 || !is_idle; ++step) {
    EXPECT_LT(step, 5000) << "no end";
    if (step == 5000) break;
    for (size_t i = 0; i < streams.size(); ++i) {
      const Arrival& arrival = schedule.arrivals[i];
      if (step == arrival.step) {
        GenerateRequest request = arrival.request;
        request.sampling.seed = 1;
        RefusalReason reason;
        streams[i] = *queue.Push(std::move(request), &reason);
      } else if (arrival.cancelled &&
                 step == arrival.step + *arrival.cancelled) {
        streams[i]->Cancel();
      }
    }
    is_idle = !core.Step();
    runner_.pool().CheckInvariantsForTest();
    for (size_t i = 0; i < streams.size(); ++i) {
      if (streams[i] != nullptr) answers[i].Read(*streams[i]);
    }
  }
  num_preemptions_ += core.stats().preemptions;
  num_reused_ += core.stats().prefix_hit_tokens;
  for (const PolicyReads& of_policy : core.stats().reads) {
    if (of_policy.policy == kSentencePolicy) reads_ += of_policy.totals.counts;
  }
  cache->ResetPrefixes();
  EXPECT_EQ(runner_.pool().stats().used, 0);
  EXPECT_EQ(runner_.memory().transfers().frames_used, 0);
  return answers;
}

ModelRunnerOptions ScheduleMemory() {
  ModelRunnerOptions options;
  options.num_pages = 24;
  options.load.max_tokens_per_step = 128;
  options.load.max_logits_per_step = 128;
  return options;
}

std::string DifferenceOfTokens(const Collected& expected,
                               const Collected& got) {
  const size_t count = std::min(expected.ids.size(), got.ids.size());
  for (size_t i = 0; i < count; ++i) {
    if (got.ids[i] != expected.ids[i]) {
      return "another token " + std::to_string(i);
    }
    if (got.tokens[i].logprob != expected.tokens[i].logprob) {
      return "another log-probability of token " + std::to_string(i);
    }
  }
  return "";
}

std::string Difference(const Collected& expected, const Collected& got) {
  const std::string tokens = DifferenceOfTokens(expected, got);
  if (!tokens.empty()) return tokens;
  if (got.ids.size() != expected.ids.size()) return "another length";
  if (!got.finish || !expected.finish) return "no end";
  if (got.finish->reason != expected.finish->reason) {
    return "ends with " + std::string(Name(got.finish->reason)) + ": " +
           got.finish->status.ToString();
  }
  return "";
}

std::string DifferenceOfAnswers(const Schedule& schedule,
                                const std::vector<Collected>& expected,
                                const std::vector<Collected>& got) {
  for (size_t i = 0; i < got.size(); ++i) {
    const std::string difference = Difference(expected[i], got[i]);
    if (difference.empty()) continue;
    return "request " + std::to_string(i) + " (" +
           schedule.arrivals[i].request.kv.policy + "): " + difference;
  }
  return "";
}

}  // namespace sentencekv
