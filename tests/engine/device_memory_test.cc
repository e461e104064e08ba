// A device with memory of its own gives what one memory gives: whole engines,
// with random requests, cancels and too little memory of either kind.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cache/kv_cache.h"
#include "engine/engine_core.h"
#include "gtest/gtest.h"
#include "tests/engine/core_harness.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/fake_clock.h"
#include "tests/support/model_runner.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

constexpr int64_t kContext = 256;
constexpr int64_t kContextPages = kContext / kPageTokens;

// Requests, when they come, and when they are cancelled.
struct Arrival {
  int step = 0;
  std::optional<int> cancelled;  // steps later
  GenerateRequest request;
};
struct Schedule {
  std::vector<Arrival> arrivals;
  LlmEngineOptions engine;
};

class ScheduleMaker {
 public:
  explicit ScheduleMaker(uint64_t seed) : random_(seed) {}

  Schedule Make() {
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

 private:
  int64_t Between(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random_);
  }

  GenerateRequest Request(std::string id) {
    GenerateRequest request =
        GreedyRequest(std::move(id), 1, static_cast<int32_t>(Between(1, 30)));
    request.prompt = Text(Between(20, 200));
    request.output.num_logprobs = 0;
    request.kv = Options();
    return request;
  }

  // Texts that begin alike.
  std::vector<int32_t> Text(int64_t num_tokens) {
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

  KvOptions Options() {
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

  std::mt19937_64 random_;
};

// A model, and one memory or two. Every schedule has an engine of its own.
class Machine {
 public:
  explicit Machine(const ModelRunnerOptions& options)
      : runner_(ModelPath(), options) {}

  std::vector<Collected> Run(const Schedule& schedule) {
    const ModelInfo& info = runner_.model().info();
    const auto cache =
        *KvCache::Create(runner_.memory(), "full",
                         {.tokenizer = &tokenizer_,
                          .shape = {.num_layers = info.num_layers,
                                    .num_heads = info.num_heads,
                                    .num_kv_heads = info.num_kv_heads,
                                    .head_dim = info.head_dim}});
    RequestQueue queue({.max_waiting = 100}, clock_);
    EngineCore core(schedule.engine, kContext,
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
    cache->ResetPrefixes();
    EXPECT_EQ(runner_.pool().stats().used, 0);
    EXPECT_EQ(runner_.memory().transfers().frames_used, 0);
    return answers;
  }

  KvTransfers transfers() { return runner_.memory().transfers(); }
  FaultBackend& faults() { return runner_.faults(); }
  int64_t num_preemptions() const { return num_preemptions_; }
  int64_t num_reused() const { return num_reused_; }

 private:
  static const std::string& ModelPath() {
    static const std::string path =
        WriteTinyGguf(MakeTinyModel({.context_length = kContext}));
    return path;
  }

  FakeClock clock_;
  ByteTokenizer tokenizer_;
  ModelRunner runner_;
  int64_t num_preemptions_ = 0;
  int64_t num_reused_ = 0;
};

ModelRunnerOptions OneMemory() {
  ModelRunnerOptions options;
  options.num_pages = 24;
  options.load.max_tokens_per_step = 128;
  options.load.max_logits_per_step = 128;
  return options;
}

ModelRunnerOptions TwoMemories(int64_t num_frames) {
  ModelRunnerOptions options = OneMemory();
  options.num_frames = num_frames;
  return options;
}

// How answers differ as far as both go; "" where they do not.
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

// How an answer differs from what it should be; "" where it does not.
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

// The first difference among `count` schedules; "" when there is none.
std::string FirstDifference(Machine& expected, Machine& tested, int count,
                            uint64_t seed) {
  ScheduleMaker maker(seed);
  for (int i = 0; i < count; ++i) {
    const Schedule schedule = maker.Make();
    const auto right = expected.Run(schedule);
    const auto got = tested.Run(schedule);
    for (size_t j = 0; j < got.size(); ++j) {
      const std::string difference = Difference(right[j], got[j]);
      if (difference.empty()) continue;
      return "schedule " + std::to_string(i) + ", request " +
             std::to_string(j) + " (" + schedule.arrivals[j].request.kv.policy +
             "): " + difference;
    }
  }
  return "";
}

class DeviceMemory : public testing::TestWithParam<int64_t> {};

// 250 schedules for each of four sizes of device memory, from one layer of the
// longest sequence to more than there is.
TEST_P(DeviceMemory, GivesWhatOneMemoryGives) {
  Machine one(OneMemory());
  Machine two(TwoMemories(GetParam()));
  EXPECT_EQ(FirstDifference(one, two, 250, 1000 + GetParam()), "");
  EXPECT_GT(one.num_preemptions(), 0);
  EXPECT_GT(one.num_reused(), 0);
  const KvTransfers transfers = two.transfers();
  EXPECT_EQ(transfers.frames_total, GetParam());
  EXPECT_GT(transfers.misses, 0);
  EXPECT_GT(transfers.hits, 0);
  EXPECT_GT(transfers.bytes_to_device, 0);
  EXPECT_GT(transfers.bytes_to_host, 0);
  // With room for all, nothing has to go.
  const bool is_tight = GetParam() < 100;
  EXPECT_EQ(transfers.evictions > 0, is_tight);
  // What one layer of the longest sequence needs is never lent to single heads.
  EXPECT_EQ(transfers.chosen_misses > 0,
            is_tight && GetParam() > kContextPages);
  EXPECT_EQ(one.transfers().bytes_to_device, 0);
}

INSTANTIATE_TEST_SUITE_P(Frames, DeviceMemory,
                         testing::Values(kContextPages, kContextPages + 5, 40,
                                         400),
                         testing::PrintToStringParamName());

using Waits = std::pair<DeviceStream, DeviceStream>;
class DeviceMemoryOrder : public testing::TestWithParam<Waits> {};

// Copies run as late as events allow, so an event that is not waited for shows.
TEST_P(DeviceMemoryOrder, AForgottenWaitShows) {
  ModelRunnerOptions options = TwoMemories(kContextPages + 5);
  options.forgotten_waits = GetParam();
  Machine one(OneMemory());
  Machine two(options);
  EXPECT_NE(FirstDifference(one, two, 100, 7), "");
}

INSTANTIATE_TEST_SUITE_P(
    Waits, DeviceMemoryOrder,
    testing::Values(Waits{DeviceStream::kCompute, DeviceStream::kToDevice},
                    Waits{DeviceStream::kCompute, DeviceStream::kToHost},
                    Waits{DeviceStream::kToDevice, DeviceStream::kToHost}),
    [](const auto& info) {
      const auto name = [](DeviceStream stream) -> std::string {
        switch (stream) {
          case DeviceStream::kCompute:
            return "Compute";
          case DeviceStream::kToDevice:
            return "ToDevice";
          case DeviceStream::kToHost:
            return "ToHost";
        }
        return "";
      };
      return name(info.param.first) + "For" + name(info.param.second);
    });

// A method of the backend, and up to which of its calls in a schedule fails.
struct Fault {
  const char* method;
  int most;
};
class DeviceMemoryFault : public testing::TestWithParam<Fault> {};

// The requests of the step end with the error. All others, those that go on and
// those that come later, get right answers, and nothing is left behind.
TEST_P(DeviceMemoryFault, EndsTheRequestsOfItsStepAndNoOthers) {
  const absl::Status ordered = absl::InternalError("ordered");
  ModelRunnerOptions options = TwoMemories(kContextPages + 5);
  options.can_fail = true;
  Machine one(OneMemory());
  Machine two(options);
  ScheduleMaker maker(11);
  std::mt19937 random(12);
  int num_failed = 0;
  int num_unhurt = 0;
  for (int i = 0; i < 100; ++i) {
    SCOPED_TRACE(testing::Message() << "schedule " << i);
    const Schedule schedule = maker.Make();
    const auto right = one.Run(schedule);
    const int n = 1 + static_cast<int>(random() % GetParam().most);
    two.faults().FailCall(n, ordered, GetParam().method);
    const auto got = two.Run(schedule);
    const bool failed = !two.faults().failed_method().empty();
    two.faults().FailCall(0, ordered);
    int num_errors = 0;
    for (size_t j = 0; j < got.size(); ++j) {
      SCOPED_TRACE(testing::Message() << "request " << j);
      EXPECT_EQ(got[j].num_finishes, 1);
      EXPECT_EQ(DifferenceOfTokens(right[j], got[j]), "");
      if (got[j].finish->reason == FinishReason::kError) {
        ++num_errors;
        EXPECT_EQ(got[j].finish->status, ordered);
      } else if (!schedule.arrivals[j].cancelled) {
        // Who is cancelled has come further, or less far, by then.
        EXPECT_EQ(Difference(right[j], got[j]), "");
        if (failed) ++num_unhurt;
      }
    }
    EXPECT_EQ(num_errors > 0, failed);
    if (failed) ++num_failed;
    if (HasFailure()) break;
  }
  EXPECT_GT(num_failed, 50);
  EXPECT_GT(num_unhurt, 50);
  EXPECT_EQ(FirstDifference(one, two, 5, 13), "");
}

INSTANTIATE_TEST_SUITE_P(
    Methods, DeviceMemoryFault,
    testing::Values(Fault{"Transfer", 200}, Fault{"Wait", 600},
                    Fault{"Record", 400}, Fault{"Allocate", 3},
                    Fault{"RopeStoreKv", 60}, Fault{"SelectedAttention", 20}),
    [](const auto& info) -> std::string { return info.param.method; });

}  // namespace
}  // namespace sentencekv
