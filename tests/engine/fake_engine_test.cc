#include "tests/support/fake_engine.h"

#include <string>
#include <thread>

#include "gtest/gtest.h"

namespace sentencekv {
namespace {

GenerateRequest Request(std::string id) {
  GenerateRequest request;
  request.request_id = std::move(id);
  request.prompt = {1, 2, 3};
  return request;
}

TEST(FakeEngine, GivesEachRequestTheScriptedAnswer) {
  FakeEngine engine;
  engine.AnswerWith({FakeEngine::TextEvent("hi", {7}),
                     FakeEngine::FinishEvent(FinishReason::kStop)});
  for (int i = 0; i < 2; ++i) {
    auto stream = engine.Submit(Request("a"));
    ASSERT_TRUE(stream.ok()) << stream.status();
    const auto event = (*stream)->TryPop();
    EXPECT_EQ(event->text, "hi");
    EXPECT_EQ(event->tokens.at(0).id, 7);
    EXPECT_EQ((*stream)->TryPop()->finish->reason, FinishReason::kStop);
  }
  EXPECT_EQ(engine.num_submitted(), 2u);
  EXPECT_EQ(engine.num_live(), 0u);
}

TEST(FakeEngine, LeavesAnswersToTheTestWithoutAScript) {
  FakeEngine engine;
  auto stream = engine.Submit(Request("a"));
  EXPECT_FALSE((*stream)->TryPop().has_value());
  EXPECT_EQ(engine.submitted(0).prompt.size(), 3u);
  EXPECT_TRUE(engine.Push(0, FakeEngine::TextEvent("x", {1})));
  EXPECT_TRUE(engine.Finish(0, FinishReason::kLength));
  EXPECT_FALSE(engine.Finish(0, FinishReason::kLength));
  EXPECT_EQ((*stream)->TryPop()->text, "x");
  EXPECT_EQ((*stream)->TryPop()->finish->reason, FinishReason::kLength);
}

TEST(FakeEngine, EndsARequestThatIsCancelledFromEitherSide) {
  FakeEngine engine;
  auto by_reader = engine.Submit(Request("a"));
  auto by_id = engine.Submit(Request("b"));
  (*by_reader)->Cancel();
  EXPECT_TRUE(engine.Cancel("b").ok());
  EXPECT_EQ(engine.Cancel("b").code(), absl::StatusCode::kNotFound);
  for (const auto& stream : {*by_reader, *by_id}) {
    const auto event = stream->TryPop();
    ASSERT_TRUE(event.has_value());
    EXPECT_EQ(event->finish->reason, FinishReason::kCancelled);
    EXPECT_EQ(event->finish->status.code(), absl::StatusCode::kCancelled);
  }
  EXPECT_TRUE(engine.was_cancelled(0));
  EXPECT_TRUE(engine.was_cancelled(1));
}

TEST(FakeEngine, RefusesAsTheContractSays) {
  FakeEngine engine;
  engine.RefuseNext(absl::ResourceExhaustedError("the queue is full"));
  EXPECT_EQ(engine.Submit(Request("a")).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(engine.Submit(Request("a")).ok());
  EXPECT_EQ(engine.Submit(Request("a")).status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(engine.Submit(Request("")).ok());
  EXPECT_NE(engine.submitted(1).request_id, "");
  engine.BeginDrain();
  EXPECT_EQ(engine.Submit(Request("c")).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST(FakeEngine, DrainsWhenItsRequestsEnd) {
  FakeEngine engine;
  auto first = engine.Submit(Request("a"));
  auto second = engine.Submit(Request("b"));
  engine.BeginDrain();
  EXPECT_FALSE(engine.AwaitIdle(absl::ZeroDuration()));
  engine.Finish(0, FinishReason::kStop);
  engine.Stop();
  EXPECT_TRUE(engine.AwaitIdle(absl::ZeroDuration()));
  EXPECT_EQ((*second)->TryPop()->finish->reason, FinishReason::kCancelled);
}

TEST(FakeEngine, LetsATestWaitForARequest) {
  FakeEngine engine;
  EXPECT_FALSE(engine.AwaitSubmitted(0, absl::ZeroDuration()));
  std::thread client([&] { EXPECT_TRUE(engine.Submit(Request("a")).ok()); });
  EXPECT_TRUE(engine.AwaitSubmitted(0, absl::Seconds(60)));
  client.join();
}

}  // namespace
}  // namespace sentencekv
