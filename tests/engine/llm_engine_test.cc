#include "engine/llm_engine.h"

#include <atomic>
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
    auto engine = MakeLlmEngine(options, model_, tokenizer_, backend_, *pool_,
                                clock_, &observer_);
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

}  // namespace
}  // namespace sentencekv
