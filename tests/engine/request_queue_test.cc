#include "engine/request_queue.h"

#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fake_clock.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;

GenerateRequest Request(std::string id, size_t prompt_tokens = 3) {
  GenerateRequest request;
  request.request_id = std::move(id);
  request.prompt.assign(prompt_tokens, 1);
  return request;
}

StreamEvent End() {
  StreamEvent event;
  event.finish.emplace();
  return event;
}

class RequestQueueTest : public ::testing::Test {
 protected:
  std::shared_ptr<RequestQueue> MakeQueue(
      const RequestQueueLimits& limits = {}) {
    return std::make_shared<RequestQueue>(limits, clock_);
  }
  absl::Status PushStatus(RequestQueue& queue, GenerateRequest request) {
    return queue.Push(std::move(request), &reason_).status();
  }

  FakeClock clock_;
  RefusalReason reason_ = RefusalReason::kInvalid;
};

TEST_F(RequestQueueTest, HandsRequestsOverInOrder) {
  auto queue = MakeQueue();
  const absl::Time start = clock_.Now();
  ASSERT_TRUE(PushStatus(*queue, Request("a")).ok());
  clock_.Advance(absl::Seconds(1));
  ASSERT_TRUE(PushStatus(*queue, Request("b", 5)).ok());
  EXPECT_EQ(queue->counts().waiting, 2);
  EXPECT_EQ(queue->counts().waiting_tokens, 8);
  const std::vector<Submission> taken = queue->TakeAll();
  ASSERT_EQ(taken.size(), 2u);
  EXPECT_EQ(taken[0].request.request_id, "a");
  EXPECT_EQ(taken[0].submitted, start);
  EXPECT_EQ(taken[1].submitted, start + absl::Seconds(1));
  EXPECT_LT(taken[0].arrival, taken[1].arrival);
  EXPECT_TRUE(queue->TakeAll().empty());
  EXPECT_EQ(queue->counts().waiting, 2) << "they wait until they are scheduled";
  queue->LeaveWaiting(3);
  EXPECT_EQ(queue->counts().waiting_tokens, 5);
}

TEST_F(RequestQueueTest, RefusesWhenTooManyWait) {
  auto queue = MakeQueue({.max_waiting = 2});
  EXPECT_TRUE(PushStatus(*queue, Request("a")).ok());
  EXPECT_TRUE(PushStatus(*queue, Request("b")).ok());
  EXPECT_EQ(PushStatus(*queue, Request("c")).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(reason_, RefusalReason::kQueueFull);
  queue->TakeAll();
  EXPECT_FALSE(PushStatus(*queue, Request("c")).ok());
  queue->LeaveWaiting(3);
  EXPECT_TRUE(PushStatus(*queue, Request("c")).ok());
}

TEST_F(RequestQueueTest, RefusesWhenTooManyTokensWait) {
  auto queue = MakeQueue({.max_waiting_tokens = 10});
  // One that is longer than the limit may wait alone.
  EXPECT_TRUE(PushStatus(*queue, Request("a", 50)).ok());
  EXPECT_EQ(PushStatus(*queue, Request("b", 1)).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(reason_, RefusalReason::kQueueFull);
  queue->LeaveWaiting(50);
  EXPECT_TRUE(PushStatus(*queue, Request("b", 6)).ok());
  EXPECT_TRUE(PushStatus(*queue, Request("c", 4)).ok());
  EXPECT_FALSE(PushStatus(*queue, Request("d", 1)).ok());
}

TEST_F(RequestQueueTest, RefusesDuplicatesUntilTheIdIsReleased) {
  auto queue = MakeQueue();
  EXPECT_TRUE(PushStatus(*queue, Request("a")).ok());
  const absl::Status status = PushStatus(*queue, Request("a"));
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(status.message()), HasSubstr("'a'"));
  EXPECT_EQ(reason_, RefusalReason::kDuplicateId);
  queue->ReleaseId("a");
  EXPECT_TRUE(PushStatus(*queue, Request("a")).ok());
}

TEST_F(RequestQueueTest, MakesIdsThatNobodyHas) {
  auto queue = MakeQueue();
  ASSERT_TRUE(PushStatus(*queue, Request("request-1")).ok());
  const auto first = queue->Push(Request(""), &reason_);
  const auto second = queue->Push(Request(""), &reason_);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_NE((*first)->request_id(), "request-1");
  EXPECT_NE((*first)->request_id(), (*second)->request_id());
  EXPECT_TRUE(queue->Cancel((*first)->request_id()).ok());
}

TEST_F(RequestQueueTest, RefusesWhatIsLateOrComesWhileDraining) {
  auto queue = MakeQueue();
  GenerateRequest late = Request("late");
  late.deadline = clock_.Now();
  EXPECT_EQ(PushStatus(*queue, late).code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(reason_, RefusalReason::kDeadline);
  queue->BeginDrain();
  queue->BeginDrain();
  EXPECT_EQ(PushStatus(*queue, Request("a")).code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(reason_, RefusalReason::kDraining);
  EXPECT_TRUE(queue->counts().draining);
}

TEST_F(RequestQueueTest, CancelReachesTheStream) {
  auto queue = MakeQueue();
  auto stream = queue->Push(Request("a"), &reason_);
  EXPECT_TRUE(queue->Cancel("a").ok());
  EXPECT_TRUE((*stream)->cancelled());
  EXPECT_EQ(queue->Cancel("b").code(), absl::StatusCode::kNotFound);
  queue->ReleaseId("a");
  EXPECT_EQ(queue->Cancel("a").code(), absl::StatusCode::kNotFound);
}

// Each cause ends the wait: nothing here depends on time passing.
TEST_F(RequestQueueTest, EveryCauseEndsTheWait) {
  auto queue = MakeQueue();
  queue->WaitForWork(clock_.Now());
  queue->Wake();
  queue->WaitForWork(absl::InfiniteFuture());
  queue->TakeAll();

  std::shared_ptr<TokenStream> stream;
  std::thread pusher([&] { stream = *queue->Push(Request("a"), &reason_); });
  queue->WaitForWork(absl::InfiniteFuture());
  pusher.join();
  queue->TakeAll();

  std::thread canceller([&] { stream->Cancel(); });
  queue->WaitForWork(absl::InfiniteFuture());
  canceller.join();
  queue->TakeAll();

  const absl::Time deadline = clock_.Now() + absl::Seconds(5);
  std::thread time([&] { clock_.Advance(absl::Seconds(5)); });
  queue->WaitForWork(deadline);
  time.join();
  EXPECT_GE(clock_.Now(), deadline);

  EXPECT_FALSE(queue->stop_requested());
  std::thread stopper([&] { queue->RequestStop(); });
  queue->WaitForWork(absl::InfiniteFuture());
  stopper.join();
  EXPECT_TRUE(queue->stop_requested());
}

TEST_F(RequestQueueTest, EveryResetIsAnsweredOnce) {
  auto queue = MakeQueue();
  std::vector<absl::StatusCode> answers;
  const auto ask = [&] {
    queue->PushReset([&](const absl::StatusOr<int64_t>& tokens) {
      answers.push_back(tokens.status().code());
    });
  };
  ask();
  queue->WaitForWork(absl::InfiniteFuture());  // returns
  const std::vector<ResetCallback> asked = queue->TakeResets();
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_TRUE(queue->TakeResets().empty());
  asked[0](16);
  ask();
  queue->RequestStop();
  ask();
  EXPECT_EQ(answers, (std::vector<absl::StatusCode>{
                         absl::StatusCode::kOk, absl::StatusCode::kUnavailable,
                         absl::StatusCode::kUnavailable}));
  EXPECT_TRUE(queue->TakeResets().empty());
}

TEST_F(RequestQueueTest, RoomInAFullOutboxEndsTheWait) {
  auto queue = MakeQueue({.outbox_capacity = 1});
  auto stream = *queue->Push(Request("a"), &reason_);
  queue->TakeAll();
  stream->Push({});
  ASSERT_TRUE(stream->full());
  std::thread reader([&] { stream->TryPop(); });
  queue->WaitForWork(absl::InfiniteFuture());
  reader.join();
  EXPECT_FALSE(stream->full());
}

TEST_F(RequestQueueTest, IsIdleWhenEveryLastEventIsOut) {
  auto queue = MakeQueue();
  EXPECT_TRUE(queue->AwaitIdle(absl::ZeroDuration()));
  auto stream = *queue->Push(Request("a"), &reason_);
  EXPECT_FALSE(queue->AwaitIdle(absl::ZeroDuration()));
  queue->ReleaseId("a");
  EXPECT_FALSE(queue->AwaitIdle(absl::ZeroDuration()));
  std::thread engine([&] {
    stream->Push(End());
    queue->MarkEnded(1);
  });
  EXPECT_TRUE(queue->AwaitIdle(absl::InfiniteDuration()));
  engine.join();
  EXPECT_TRUE(stream->TryPop()->finish.has_value());
}

TEST_F(RequestQueueTest, AwaitIdleGivesUpByTheClock) {
  auto queue = MakeQueue();
  ASSERT_TRUE(PushStatus(*queue, Request("a")).ok());
  std::thread time([&] {
    for (int i = 0; i < 5; ++i) clock_.Advance(absl::Seconds(1));
  });
  const absl::Time start = clock_.Now();
  // Whatever part of the five seconds is left is enough for one second to pass
  // or the clock stands beyond it already.
  time.join();
  EXPECT_EQ(clock_.Now(), absl::FromUnixSeconds(1577836800) + absl::Seconds(5));
  EXPECT_LE(start, clock_.Now());
  std::thread later([&] { clock_.Advance(absl::Hours(1)); });
  EXPECT_FALSE(queue->AwaitIdle(absl::ZeroDuration()));
  later.join();
}

// The reader outlives the queue.
TEST_F(RequestQueueTest, AStreamMayOutliveTheQueue) {
  auto queue = MakeQueue();
  auto stream = *queue->Push(Request("a"), &reason_);
  queue.reset();
  stream->Cancel();
  EXPECT_TRUE(stream->cancelled());
}

}  // namespace
}  // namespace sentencekv
