// How Generate RPCs end: cancel, deadline, disconnect, slow readers, in every
// order with what the engine does.
#include "server/generate_call.h"

#include <atomic>
#include <random>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "tests/server/server_fixture.h"
#include "tests/support/sanitized.h"

namespace sentencekv {
namespace {

using Reader = std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>;

// Polls a condition that other threads bring about.
template <typename Condition>
bool Eventually(Condition condition) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

// More than the connection's window, less than a client accepts.
const std::string kLarge(3 << 20, 'x');

class GenerateCallTest : public ServerFixture {
 protected:
  double RpcsEnded() const {
    double count = 0;
    for (const auto& family : metrics_->Collect()) {
      if (family.name != "sentencekv_rpcs_total") continue;
      for (const auto& metric : family.metric) count += metric.counter.value;
    }
    return count;
  }
};

TEST_F(GenerateCallTest, AcceptanceIsSeenBeforeTheFirstToken) {
  grpc::ClientContext context;
  Reader reader = stub_->Generate(&context, TextRequest("hi"));
  reader->WaitForInitialMetadata();
  EXPECT_EQ(context.GetServerInitialMetadata().count("x-request-id"), 1u);
  EXPECT_TRUE(engine_->Finish(0, FinishReason::kStop));
  v1::GenerateResponse message;
  while (reader->Read(&message)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(GenerateCallTest, AClientsCancelReachesTheEngine) {
  grpc::ClientContext context;
  Reader reader = stub_->Generate(&context, TextRequest("hi"));
  ASSERT_TRUE(engine_->AwaitSubmitted(0, kPatience));
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(Eventually([&] { return engine_->was_cancelled(0); }));
}

TEST_F(GenerateCallTest, ADisconnectReachesTheEngine) {
  {
    auto channel = NewChannel();
    auto stub = v1::SentenceKv::NewStub(channel);
    grpc::ClientContext context;
    Reader reader = stub->Generate(&context, TextRequest("hi"));
    ASSERT_TRUE(engine_->AwaitSubmitted(0, kPatience));
    Abandon(context, *reader);
  }
  EXPECT_TRUE(Eventually([&] { return engine_->was_cancelled(0); }));
}

TEST_F(GenerateCallTest, TheDeadlineReachesTheEngine) {
  grpc::ClientContext context;
  // Long enough that the call reaches the engine before.
  const absl::Time deadline =
      absl::Now() + (kIsSanitized ? absl::Seconds(5) : absl::Seconds(1));
  context.set_deadline(absl::ToChronoTime(deadline));
  Reader reader = stub_->Generate(&context, TextRequest("hi"));
  ASSERT_TRUE(engine_->AwaitSubmitted(0, kPatience));
  // The wire carries a timeout, rounded up, from when the server got it.
  const absl::Time seen = engine_->submitted(0).deadline;
  EXPECT_GT(seen, deadline - absl::Milliseconds(50));
  EXPECT_LT(seen, deadline + absl::Seconds(5));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(Eventually([&] { return engine_->was_cancelled(0); }));
}

TEST_F(GenerateCallTest, WithoutADeadlineThereIsNone) {
  grpc::ClientContext context;
  Reader reader = stub_->Generate(&context, TextRequest("hi"));
  ASSERT_TRUE(engine_->AwaitSubmitted(0, kPatience));
  EXPECT_EQ(engine_->submitted(0).deadline, absl::InfiniteFuture());
  Abandon(context, *reader);
}

TEST_F(GenerateCallTest, EventsBecomeOneMessageWhenTheWriterLags) {
  constexpr int kEvents = 200;
  // A sanitizer takes a minute for so large a message.
  FrontEndOptions options = DefaultOptions();
  options.slow_reader_timeout = absl::Minutes(10);
  StartServer(options);
  grpc::ClientContext context;
  Reader reader = stub_->Generate(&context, TextRequest("hi"));
  ASSERT_TRUE(engine_->AwaitSubmitted(0, kPatience));
  // This write waits for the reader.
  ASSERT_TRUE(
      engine_->Push(0, FakeEngine::TextEvent(std::string(3 << 20, 'x'), {1})));
  for (int i = 0; i < kEvents; ++i)
    ASSERT_TRUE(engine_->Push(0, FakeEngine::TextEvent("y", {2})));
  ASSERT_TRUE(engine_->Finish(0, FinishReason::kStop));
  int messages = 0;
  int tokens = 0;
  std::string text;
  v1::GenerateResponse message;
  while (reader->Read(&message)) {
    ++messages;
    tokens += message.token_ids_size();
    text += message.text();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(tokens, kEvents + 1);
  EXPECT_EQ(text, kLarge + std::string(kEvents, 'y'));
  EXPECT_LT(messages, 20);
}

TEST_F(GenerateCallTest, AReaderThatDoesNotReadIsAborted) {
  FrontEndOptions options = DefaultOptions();
  options.slow_reader_timeout = absl::Milliseconds(100);
  StartServer(options);
  grpc::ClientContext context;
  Reader reader = stub_->Generate(&context, TextRequest("hi"));
  ASSERT_TRUE(engine_->AwaitSubmitted(0, kPatience));
  ASSERT_TRUE(engine_->Push(0, FakeEngine::TextEvent(kLarge, {1})));
  EXPECT_TRUE(Eventually([&] { return engine_->was_cancelled(0); }));
  EXPECT_TRUE(Eventually([&] { return RpcsEnded() == 1; }));
  EXPECT_FALSE(Abandon(context, *reader).ok());
}

// The engine is done, but the last message cannot be delivered.
TEST_F(GenerateCallTest, AReaderThatDoesNotReadTheLastMessageIsAborted) {
  FrontEndOptions options = DefaultOptions();
  options.slow_reader_timeout = absl::Milliseconds(100);
  StartServer(options);
  engine_->AnswerWith({FakeEngine::TextEvent(kLarge, {1}),
                       FakeEngine::FinishEvent(FinishReason::kStop)});
  grpc::ClientContext context;
  Reader reader = stub_->Generate(&context, TextRequest("hi"));
  EXPECT_TRUE(Eventually([&] { return RpcsEnded() == 1; }));
  EXPECT_FALSE(Abandon(context, *reader).ok());
}

TEST_F(GenerateCallTest, CancelRpcEndsARequestOfAnotherConnection) {
  v1::GenerateRequest request = TextRequest("hi");
  request.set_request_id("victim");
  grpc::ClientContext context;
  Reader reader = stub_->Generate(&context, request);
  ASSERT_TRUE(engine_->AwaitSubmitted(0, kPatience));
  auto other = v1::SentenceKv::NewStub(NewChannel());
  v1::CancelRequest cancel;
  cancel.set_request_id("victim");
  v1::CancelResponse response;
  grpc::ClientContext cancel_context;
  EXPECT_TRUE(other->Cancel(&cancel_context, cancel, &response).ok());
  v1::GenerateResponse message;
  v1::FinishReason reason = v1::FINISH_REASON_UNSPECIFIED;
  while (reader->Read(&message)) reason = message.finish().reason();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(reason, v1::FINISH_REASON_CANCELLED);
  // Now it is gone.
  grpc::ClientContext again;
  const grpc::Status status = other->Cancel(&again, cancel, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(ReasonOf(status), "REQUEST_NOT_FOUND");
}

// Clients that read, cancel, or run into deadlines at random moments, while
// the engine pushes and ends at random moments: every call must end once, and
// none may be left behind.
TEST_F(GenerateCallTest, NoInterleavingLeaksACall) {
  constexpr int kClients = 8;
  constexpr int kRequests = 150;
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  engine_->set_outbox_capacity(4);
  std::atomic<bool> clients_done = false;
  std::thread pusher([&] {
    std::mt19937 random(seed);
    size_t oldest = 0;
    while (!clients_done || engine_->num_live() > 0) {
      const size_t count = engine_->num_submitted();
      while (oldest < count && !engine_->is_live(oldest)) ++oldest;
      for (size_t i = oldest; i < count; ++i) {
        if (random() % 4 == 0) {
          engine_->Finish(i, static_cast<FinishReason>(random() % 5));
        } else {
          engine_->Push(i, FakeEngine::TextEvent("abc", {1, 2}));
        }
      }
      if (clients_done) {
        for (size_t i = 0; i < count; ++i)
          engine_->Finish(i, FinishReason::kStop);
      }
      std::this_thread::yield();
    }
  });
  std::vector<std::thread> clients;
  for (int c = 0; c < kClients; ++c) {
    clients.emplace_back([&, c] {
      std::mt19937 random(seed + 1 + c);
      for (int i = 0; i < kRequests; ++i) {
        grpc::ClientContext context;
        if (random() % 4 == 0)
          context.set_deadline(absl::ToChronoTime(
              absl::Now() + absl::Microseconds(random() % 3000)));
        Reader reader = stub_->Generate(&context, TextRequest("hi"));
        v1::GenerateResponse message;
        int reads = static_cast<int>(random() % 5);
        while (reads-- > 0 && reader->Read(&message)) {
        }
        if (random() % 2 == 0) context.TryCancel();
        while (reader->Read(&message)) {
        }
        reader->Finish();
      }
    });
  }
  for (std::thread& client : clients) client.join();
  clients_done = true;
  pusher.join();
  // Nothing is left to wait for: a drain with no time is a clean one.
  EXPECT_TRUE(Eventually([&] { return engine_->num_live() == 0; }));
  EXPECT_TRUE(front_end_->Drain(absl::ZeroDuration()));
}

}  // namespace
}  // namespace sentencekv
