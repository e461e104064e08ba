// Drains: what happens to streams, new requests and health in between.
#include "server/front_end.h"

#include <thread>

#include "absl/synchronization/notification.h"
#include "tests/server/server_fixture.h"

namespace sentencekv {
namespace {

constexpr int kStreams = 16;

// Clients that read their streams to the end.
class Readers {
 public:
  Readers(v1::SentenceKv::Stub& stub, int count) {
    answers_.resize(count);
    for (int i = 0; i < count; ++i) {
      threads_.emplace_back([&, i, stub = &stub] {
        v1::GenerateRequest request;
        request.set_text("hi");
        grpc::ClientContext context;
        auto reader = stub->Generate(&context, request);
        v1::GenerateResponse message;
        while (reader->Read(&message)) answers_[i].text += message.text();
        answers_[i].status = reader->Finish();
      });
    }
  }
  ~Readers() { Join(); }
  void Join() {
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }

  struct Answer {
    std::string text;
    grpc::Status status;
  };
  const std::vector<Answer>& answers() const { return answers_; }

 private:
  std::vector<Answer> answers_;
  std::vector<std::thread> threads_;
};

class DrainTest : public ServerFixture {
 protected:
  // Drains on another thread and tells when it is done.
  void StartDrain(absl::Duration timeout) {
    drain_ = std::thread([this, timeout] {
      clean_ = front_end_->Drain(timeout);
      drained_.Notify();
    });
    while (!engine_->draining()) std::this_thread::yield();
  }
  void TearDown() override {
    if (drain_.joinable()) drain_.join();
  }

  std::thread drain_;
  absl::Notification drained_;
  bool clean_ = false;
};

TEST_F(DrainTest, WithoutRequestsIsImmediateAndClean) {
  const absl::Time start = absl::Now();
  EXPECT_TRUE(front_end_->Drain(absl::Hours(1)));
  EXPECT_LT(absl::Now() - start, kPatience);
  EXPECT_TRUE(engine_->stopped());
}

TEST_F(DrainTest, LosesNoRunningStream) {
  Readers readers(*stub_, kStreams);
  ASSERT_TRUE(engine_->AwaitSubmitted(kStreams - 1, kPatience));
  for (int i = 0; i < kStreams; ++i)
    engine_->Push(i, FakeEngine::TextEvent("before ", {1}));
  StartDrain(kPatience);
  for (int i = 0; i < kStreams; ++i) {
    EXPECT_TRUE(engine_->Push(i, FakeEngine::TextEvent("after", {2})));
    EXPECT_TRUE(engine_->Finish(i, FinishReason::kStop));
  }
  readers.Join();
  drained_.WaitForNotification();
  EXPECT_TRUE(clean_);
  for (const Readers::Answer& answer : readers.answers()) {
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.text, "before after");
  }
}

TEST_F(DrainTest, RefusesNewRequestsMeanwhile) {
  Readers readers(*stub_, 1);
  ASSERT_TRUE(engine_->AwaitSubmitted(0, kPatience));
  StartDrain(kPatience);
  const Answer refused = Generate(TextRequest("too late"));
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(refused.status), "DRAINING");
  EXPECT_GT(
      DetailOf<google::rpc::RetryInfo>(refused.status).retry_delay().seconds(),
      0);
  EXPECT_FALSE(drained_.HasBeenNotified());
  engine_->Finish(0, FinishReason::kStop);
  readers.Join();
  EXPECT_TRUE(readers.answers()[0].status.ok());
}

TEST_F(DrainTest, CancelsWhatOutlivesTheTimeout) {
  Readers readers(*stub_, kStreams);
  ASSERT_TRUE(engine_->AwaitSubmitted(kStreams - 1, kPatience));
  EXPECT_FALSE(front_end_->Drain(absl::Milliseconds(50)));
  readers.Join();
  for (const Readers::Answer& answer : readers.answers())
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(DrainTest, AbortEndsADrainAtOnce) {
  Readers readers(*stub_, kStreams);
  ASSERT_TRUE(engine_->AwaitSubmitted(kStreams - 1, kPatience));
  const absl::Time start = absl::Now();
  StartDrain(absl::Hours(1));
  front_end_->Abort();
  drained_.WaitForNotification();
  EXPECT_LT(absl::Now() - start, kPatience);
  EXPECT_FALSE(clean_);
  readers.Join();
  for (const Readers::Answer& answer : readers.answers())
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(DrainTest, AReaderThatDoesNotReadHoldsItUpForSecondsOnly) {
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, TextRequest("hi"));
  ASSERT_TRUE(engine_->AwaitSubmitted(0, kPatience));
  engine_->Push(0, FakeEngine::TextEvent(std::string(3 << 20, 'x'), {1}));
  engine_->Finish(0, FinishReason::kStop);
  const absl::Time start = absl::Now();
  EXPECT_FALSE(front_end_->Drain(absl::Hours(1)));
  EXPECT_LT(absl::Now() - start, 3 * kPatience);
  EXPECT_FALSE(Abandon(context, *reader).ok());
}

TEST_F(DrainTest, DestroyingAFrontEndEndsItsRequests) {
  Readers readers(*stub_, 1);
  ASSERT_TRUE(engine_->AwaitSubmitted(0, kPatience));
  front_end_.reset();
  readers.Join();
  EXPECT_FALSE(readers.answers()[0].status.ok());
  EXPECT_TRUE(engine_->stopped());
}

}  // namespace
}  // namespace sentencekv
