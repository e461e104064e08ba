#include "engine/llm_engine.h"

#include <atomic>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/core_harness.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;

// Long enough for any machine; nothing waits for it to pass.
constexpr absl::Duration kLong = absl::Seconds(120);

Collected ReadAll(TokenStream& stream) {
  Collected collected;
  while (!collected.finish.has_value()) {
    std::optional<StreamEvent> event = stream.Pop(kLong);
    EXPECT_TRUE(event.has_value()) << "the stream did not end";
    if (!event.has_value()) break;
    collected.Add(*std::move(event));
  }
  return collected;
}

class RefusalCounter : public EngineObserver {
 public:
  void OnRefused(RefusalReason reason) override {
    absl::MutexLock lock(&mutex_);
    reasons_.push_back(reason);
  }
  std::vector<RefusalReason> reasons() const {
    absl::MutexLock lock(&mutex_);
    return reasons_;
  }

 private:
  mutable absl::Mutex mutex_;
  std::vector<RefusalReason> reasons_;
};

class LlmEngineTest : public ::testing::Test {
 protected:
  void Start(const LlmEngineOptions& options = {}, int64_t num_pages = 64) {
    pool_ = *PagePool::Create(backend_, ScriptedModel::Layout(num_pages));
    memory_ = MakeInPlaceKvMemory(*pool_);
    auto engine = MakeLlmEngine(options, model_, tokenizer_, *memory_, clock_,
                                &observer_);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }
  // Makes Forward wait until Release.
  void HoldForward() {
    model_.set_on_forward([this](auto) {
      if (!reached_.HasBeenNotified()) reached_.Notify();
      released_.WaitForNotification();
    });
  }
  absl::StatusCode SubmitCode(GenerateRequest request) {
    return engine_->Submit(std::move(request)).status().code();
  }

  MemoryBackend backend_;
  FakeClock clock_;
  ByteTokenizer tokenizer_;
  ScriptedModel model_;
  RefusalCounter observer_;
  std::unique_ptr<PagePool> pool_;
  std::unique_ptr<KvMemory> memory_;
  absl::Notification reached_;
  absl::Notification released_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(LlmEngineTest, GeneratesGreedily) {
  model_.set_logits(
      ScriptedModel::Recite(5, "Hello, world", ByteTokenizer::kEos));
  Start();
  GenerateRequest request = GreedyRequest("a", 5, 0);
  request.stop.ignore_eos = false;
  auto stream = engine_->Submit(request);
  ASSERT_TRUE(stream.ok()) << stream.status();
  const Collected answer = ReadAll(**stream);
  EXPECT_EQ(answer.text, "Hello, world");
  EXPECT_EQ(answer.finish->reason, FinishReason::kStop);
  EXPECT_EQ(answer.finish->stop_token_id, ByteTokenizer::kEos);
  EXPECT_EQ(answer.finish->usage.generated_tokens, 13);
  EXPECT_TRUE(engine_->AwaitIdle(kLong));
  const EngineStats stats = engine_->stats();
  EXPECT_EQ(stats.pages_free, stats.pages_total);
  EXPECT_EQ(stats.requests_finished, 1);
  EXPECT_EQ(stats.prompt_tokens, 5);
  EXPECT_EQ(stats.generated_tokens, 13);
  EXPECT_EQ(stats.running, 0);
}

TEST_F(LlmEngineTest, ResetsThePrefixCacheWhileItSleeps) {
  Start();
  const auto run = [this] {
    auto stream = engine_->Submit(GreedyRequest("a", 70, 2));
    return ReadAll(**stream).finish->usage.cached_tokens;
  };
  const auto reset = [this] {
    absl::Notification done;
    absl::StatusOr<int64_t> dropped;
    engine_->ResetPrefixCache([&](absl::StatusOr<int64_t> tokens) {
      dropped = std::move(tokens);
      done.Notify();
    });
    EXPECT_TRUE(done.WaitForNotificationWithTimeout(kLong));
    return dropped;
  };
  EXPECT_EQ(run(), 0);
  EXPECT_EQ(run(), 64);
  EXPECT_EQ(*reset(), 64);
  EXPECT_EQ(engine_->stats().pages_cached, 0);
  EXPECT_EQ(run(), 0);
  engine_->Stop();
  EXPECT_EQ(reset().status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(LlmEngineTest, ThePrefixCacheCanBeOff) {
  LlmEngineOptions options;
  options.prefix_cache = false;
  Start(options);
  for (int i = 0; i < 2; ++i) {
    auto stream = engine_->Submit(GreedyRequest("a", 70, 2));
    EXPECT_EQ(ReadAll(**stream).finish->usage.cached_tokens, 0);
  }
}

TEST_F(LlmEngineTest, RefusesOptionsByFieldAndValue) {
  struct Case {
    const char* field;
    std::function<void(LlmEngineOptions&)> spoil;
  };
  const Case cases[] = {
      {"max_step_tokens", [](auto& o) { o.max_step_tokens = 1; }},
      {"max_prefill_tokens_beside_decode",
       [](auto& o) { o.max_prefill_tokens_beside_decode = 0; }},
      {"max_running", [](auto& o) { o.max_running = 0; }},
      {"max_request_tokens", [](auto& o) { o.max_request_tokens = 1; }},
      {"max_waiting", [](auto& o) { o.max_waiting = -1; }},
      {"max_waiting_tokens", [](auto& o) { o.max_waiting_tokens = 0; }},
      {"outbox_capacity", [](auto& o) { o.outbox_capacity = 0; }},
      {"outbox_timeout",
       [](auto& o) { o.outbox_timeout = absl::ZeroDuration(); }},
      {"policy", [](auto& o) { o.default_kv_policy = "some"; }},
  };
  pool_ = *PagePool::Create(backend_, ScriptedModel::Layout(4));
  memory_ = MakeInPlaceKvMemory(*pool_);
  for (const Case& c : cases) {
    LlmEngineOptions options;
    c.spoil(options);
    const auto engine =
        MakeLlmEngine(options, model_, tokenizer_, *memory_, clock_, nullptr);
    EXPECT_EQ(engine.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(engine.status().message()), HasSubstr(c.field));
  }
}

TEST_F(LlmEngineTest, MaxRequestTokensBoundsWhatThePoolWouldAllow) {
  LlmEngineOptions options;
  options.max_request_tokens = 20;
  Start(options, /*num_pages=*/8);
  EXPECT_EQ(engine_->max_request_tokens(), 20);
  EXPECT_EQ(SubmitCode(GreedyRequest("long", 20, 1)),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(SubmitCode(GreedyRequest("fits", 19, 1)), absl::StatusCode::kOk);
}

TEST_F(LlmEngineTest, RefusesAtOnceWithTheReason) {
  LlmEngineOptions options;
  options.max_running = 1;
  options.max_waiting = 2;
  HoldForward();
  Start(options, /*num_pages=*/8);
  EXPECT_EQ(engine_->max_request_tokens(), 8 * kPageTokens);
  auto running = engine_->Submit(GreedyRequest("running", 4, 2));
  reached_.WaitForNotification();

  EXPECT_EQ(SubmitCode(GreedyRequest("long", 8 * kPageTokens, 1)),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(SubmitCode(GreedyRequest("none", 0, 1)),
            absl::StatusCode::kInvalidArgument);
  GenerateRequest invalid = GreedyRequest("invalid", 4, 1);
  invalid.sampling.top_p = 3;
  EXPECT_EQ(SubmitCode(invalid), absl::StatusCode::kInvalidArgument);
  GenerateRequest policy = GreedyRequest("policy", 4, 1);
  policy.kv.policy = "none";
  EXPECT_EQ(SubmitCode(policy), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(SubmitCode(GreedyRequest("running", 4, 1)),
            absl::StatusCode::kAlreadyExists);
  GenerateRequest late = GreedyRequest("late", 4, 1);
  late.deadline = clock_.Now();
  EXPECT_EQ(SubmitCode(late), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(engine_->Submit(GreedyRequest("w1", 4, 2)).ok());
  EXPECT_TRUE(engine_->Submit(GreedyRequest("w2", 4, 2)).ok());
  EXPECT_EQ(engine_->stats().waiting, 2);
  EXPECT_EQ(SubmitCode(GreedyRequest("w3", 4, 2)),
            absl::StatusCode::kResourceExhausted);
  engine_->BeginDrain();
  EXPECT_TRUE(engine_->stats().draining);
  EXPECT_EQ(SubmitCode(GreedyRequest("w4", 4, 2)),
            absl::StatusCode::kUnavailable);
  const std::vector<RefusalReason> expected = {
      RefusalReason::kTooLong,     RefusalReason::kTooLong,
      RefusalReason::kInvalid,     RefusalReason::kInvalid,
      RefusalReason::kDuplicateId, RefusalReason::kDeadline,
      RefusalReason::kQueueFull,   RefusalReason::kDraining};
  EXPECT_EQ(observer_.reasons(), expected);

  // A drain lets what was accepted finish.
  released_.Notify();
  EXPECT_TRUE(engine_->AwaitIdle(kLong));
  EXPECT_EQ(ReadAll(**running).finish->reason, FinishReason::kLength);
  EXPECT_EQ(engine_->stats().requests_finished, 3);
}

TEST_F(LlmEngineTest, CancelsByIdFromAnotherThread) {
  HoldForward();
  Start();
  auto stream = engine_->Submit(GreedyRequest("a", 4, 400));
  reached_.WaitForNotification();
  EXPECT_EQ(engine_->Cancel("b").code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(engine_->Cancel("a").ok());
  released_.Notify();
  const Collected answer = ReadAll(**stream);
  EXPECT_EQ(answer.finish->reason, FinishReason::kCancelled);
  EXPECT_LE(answer.ids.size(), 1u);
  EXPECT_TRUE(engine_->AwaitIdle(kLong));
  EXPECT_EQ(engine_->Cancel("a").code(), absl::StatusCode::kNotFound);
}

TEST_F(LlmEngineTest, AnIdAndItsPagesAreFreeOnceTheLastEventIsRead) {
  Start();
  for (int i = 0; i < 200; ++i) {
    auto stream = engine_->Submit(GreedyRequest("same id", 20, 2));
    ASSERT_TRUE(stream.ok()) << stream.status();
    ReadAll(**stream);
    ASSERT_EQ(engine_->stats().pages_used, 0);
    ASSERT_EQ(engine_->stats().requests_finished, i + 1);
  }
}

TEST_F(LlmEngineTest, StopEndsLiveRequests) {
  HoldForward();
  Start();
  auto running = engine_->Submit(GreedyRequest("a", 4, 400));
  reached_.WaitForNotification();
  auto waiting = engine_->Submit(GreedyRequest("b", 4, 400));
  std::thread release([&] { released_.Notify(); });
  engine_->Stop();
  engine_->Stop();
  release.join();
  for (const auto& stream : {*running, *waiting}) {
    EXPECT_EQ(ReadAll(*stream).finish->reason, FinishReason::kCancelled);
  }
  EXPECT_EQ(SubmitCode(GreedyRequest("c", 4, 1)),
            absl::StatusCode::kUnavailable);
  EXPECT_TRUE(engine_->AwaitIdle(absl::ZeroDuration()));
  EXPECT_EQ(pool_->stats().used, 0);
}

// Nothing runs, nothing comes in: only the clock can end this request.
TEST_F(LlmEngineTest, WakesForADeadlineWhileAReaderLags) {
  LlmEngineOptions options;
  options.outbox_capacity = 1;
  Start(options);
  GenerateRequest request = GreedyRequest("a", 4, 100);
  request.deadline = clock_.Now() + absl::Seconds(3);
  auto stream = engine_->Submit(request);
  std::optional<StreamEvent> first = (*stream)->Pop(kLong);
  ASSERT_TRUE(first.has_value());
  EXPECT_FALSE(engine_->AwaitIdle(absl::ZeroDuration()));
  clock_.Advance(absl::Seconds(3));
  EXPECT_EQ(ReadAll(**stream).finish->reason, FinishReason::kDeadline);
}

TEST_F(LlmEngineTest, RequestsWithoutASeedDiffer) {
  Start();
  std::set<std::vector<int32_t>> answers;
  for (int i = 0; i < 3; ++i) {
    GenerateRequest request = GreedyRequest("", 4, 30);
    request.sampling.temperature = 1.0f;
    request.sampling.seed.reset();
    auto stream = engine_->Submit(request);
    answers.insert(ReadAll(**stream).ids);
  }
  EXPECT_EQ(answers.size(), 3u);
}

TEST_F(LlmEngineTest, GoesOnAfterAFailedStep) {
  model_.FailForward(1, absl::InternalError("device"));
  Start();
  auto failing = engine_->Submit(GreedyRequest("a", 4, 5));
  EXPECT_EQ(ReadAll(**failing).finish->status, absl::InternalError("device"));
  auto next = engine_->Submit(GreedyRequest("b", 4, 5));
  EXPECT_EQ(ReadAll(**next).ids.size(), 5u);
}

TEST_F(LlmEngineTest, TellsWhenTheDeviceIsLost) {
  std::atomic<int> num_told = 0;
  LlmEngineOptions options;
  options.on_device_lost = [&](const absl::Status& status) {
    EXPECT_EQ(status, absl::DataLossError("device"));
    ++num_told;
  };
  model_.FailForward(0, absl::InternalError("something else"));
  model_.FailForward(2, absl::DataLossError("device"));
  Start(options);
  auto failing = engine_->Submit(GreedyRequest("a", 4, 5));
  ReadAll(**failing);
  EXPECT_EQ(num_told, 0);
  auto losing = engine_->Submit(GreedyRequest("b", 4, 5));
  EXPECT_EQ(ReadAll(**losing).finish->status, absl::DataLossError("device"));
  engine_->Stop();
  EXPECT_EQ(num_told, 1);
}

// Many clients at once, by callback, by blocking read, cancelling, or leaving
// their stream unread: all end, and nothing is left. For ThreadSanitizer too.
TEST_F(LlmEngineTest, ServesManyThreads) {
  LlmEngineOptions options;
  options.max_waiting = 1000;
  options.outbox_capacity = 3;
  Start(options, /*num_pages=*/16);
  constexpr int kThreads = 8;
  constexpr int kRequests = 40;
  std::atomic<int> num_finished = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRequests; ++i) {
        auto stream = engine_->Submit(GreedyRequest(
            std::to_string(t) + "/" + std::to_string(i), 5 + i, 1 + i % 20));
        ASSERT_TRUE(stream.ok()) << stream.status();
        if (i % 5 == 1) (*stream)->Cancel();
        if (i % 5 == 2) engine_->Cancel((*stream)->request_id()).IgnoreError();
        if (i % 5 == 3) {
          absl::Notification done;
          TokenStream* const raw = stream->get();
          raw->SetReadyCallback([&, raw] {
            while (auto event = raw->TryPop()) {
              if (event->finish.has_value()) done.Notify();
            }
          });
          done.WaitForNotification();
        } else {
          ReadAll(**stream);
        }
        ++num_finished;
        engine_->stats();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_finished, kThreads * kRequests);
  EXPECT_TRUE(engine_->AwaitIdle(kLong));
  EXPECT_EQ(engine_->stats().pages_used, 0);
  engine_->Stop();
  pool_->CheckInvariantsForTest();
}

}  // namespace
}  // namespace sentencekv
