// Each documented refusal, as a client of the real daemon sees it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/integration/server_process.h"
#include "tests/support/sanitized.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;

// A detail of this type in grpc-status-details-bin, if there is one.
template <typename Detail>
std::optional<Detail> DetailOf(const grpc::Status& status) {
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return std::nullopt;
  Detail detail;
  for (const auto& any : details.details()) {
    if (any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

// A model whose answers last as long as a test needs.
std::string LongContextModel() {
  TinyModelOptions options;
  options.context_length = 1 << 17;
  return WriteTinyGguf(MakeTinyModel(options));
}

v1::GenerateRequest TextRequest(std::string text) {
  v1::GenerateRequest request;
  request.set_text(std::move(text));
  request.mutable_stop()->set_max_tokens(2);
  return request;
}

class Refusals : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ =
        new ServerProcess(LongContextModel(),
                          {"--threads", "1", "--max_running", "1",
                           "--max_waiting", "1", "--kv_host_memory", "64MiB"});
  }
  static void TearDownTestSuite() { delete server_; }

  static Answer Generate(const v1::GenerateRequest& request,
                         double timeout_seconds = kIsSanitized ? 900 : 60) {
    const auto connection = server_->Connect(timeout_seconds);
    const auto context = connection->NewContext();
    return ReadAnswer(connection->stub(), *context, request, nullptr);
  }
  // The server goes on after whatever a test did to it.
  void TearDown() override {
    server_->AwaitIdle();
    EXPECT_TRUE(Generate(TextRequest("still there?")).status.ok());
  }

  static ServerProcess* server_;
};

ServerProcess* Refusals::server_ = nullptr;

TEST_F(Refusals, WrongFieldsAreNamed) {
  struct Case {
    std::string field;
    std::function<void(v1::GenerateRequest*)> spoil;
  };
  const Case kCases[] = {
      {"sampling.temperature",
       [](auto* r) { r->mutable_sampling()->set_temperature(-1); }},
      {"sampling.top_p", [](auto* r) { r->mutable_sampling()->set_top_p(0); }},
      {"sampling.min_p",
       [](auto* r) { r->mutable_sampling()->set_min_p(NAN); }},
      {"stop.max_tokens",
       [](auto* r) { r->mutable_stop()->set_max_tokens(-5); }},
      {"output.logprobs",
       [](auto* r) { r->mutable_output()->set_logprobs(21); }},
      {"kv.policy", [](auto* r) { r->mutable_kv()->set_policy("no-such"); }},
  };
  for (const Case& test : kCases) {
    v1::GenerateRequest request = TextRequest("a");
    test.spoil(&request);
    const Answer answer = Generate(request);
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
        << test.field << ": " << answer.status.error_message();
    const auto detail = DetailOf<google::rpc::BadRequest>(answer.status);
    ASSERT_TRUE(detail.has_value()) << test.field;
    EXPECT_THAT(detail->field_violations(0).field(), HasSubstr(test.field));
    EXPECT_FALSE(detail->field_violations(0).description().empty());
  }
}

TEST_F(Refusals, EmptyPromptIsInvalid) {
  v1::GenerateRequest no_ids;
  no_ids.mutable_token_ids();
  v1::GenerateRequest no_text = TextRequest("");
  no_text.set_add_bos(false);
  for (const auto& request : {v1::GenerateRequest(), no_ids, no_text}) {
    EXPECT_EQ(Generate(request).status.error_code(),
              grpc::StatusCode::INVALID_ARGUMENT)
        << request.DebugString();
  }
}

TEST_F(Refusals, UnknownModelIsNotFound) {
  v1::GenerateRequest request = TextRequest("a");
  request.set_model("another");
  EXPECT_EQ(Generate(request).status.error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(Refusals, PromptOf20MiBIsRefusedByTheMessageLimit) {
  const Answer answer = Generate(TextRequest(std::string(20 << 20, 'a')));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED)
      << answer.status.error_message();
}

TEST_F(Refusals, PromptBeyondTheContextIsInvalid) {
  v1::GenerateRequest request =
      GreedyRequest(std::vector<int32_t>((1 << 17) + 1, 5), 1);
  EXPECT_EQ(Generate(request).status.error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(Refusals, TokenIdOutsideTheVocabularyIsInvalid) {
  for (const int32_t id : {-1, 1 << 30}) {
    EXPECT_EQ(Generate(GreedyRequest({5, id}, 1)).status.error_code(),
              grpc::StatusCode::INVALID_ARGUMENT)
        << id;
  }
}

TEST_F(Refusals, PassedDeadlineIsDeadlineExceeded) {
  EXPECT_EQ(Generate(GreedyRequest({5, 6}, 100'000), 0.2).status.error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
}

TEST_F(Refusals, FullQueueIsResourceExhaustedWithARetryHint) {
  const auto occupant = server_->Connect();
  const auto occupy = [&](grpc::ClientContext* context) {
    return std::jthread([&, context] {
      ReadAnswer(occupant->stub(), *context, GreedyRequest({5, 6}, 100'000),
                 nullptr);
    });
  };
  grpc::ClientContext running;
  grpc::ClientContext waiting;
  const std::jthread first = occupy(&running);
  server_->AwaitStats([](const auto& s) { return s.running_requests() == 1; });
  const std::jthread second = occupy(&waiting);
  server_->AwaitStats([](const auto& s) { return s.waiting_requests() == 1; });

  const Answer refused = Generate(TextRequest("a"));
  running.TryCancel();
  waiting.TryCancel();
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED)
      << refused.status.error_message();
  const auto retry = DetailOf<google::rpc::RetryInfo>(refused.status);
  ASSERT_TRUE(retry.has_value());
  EXPECT_GT(retry->retry_delay().seconds() + retry->retry_delay().nanos(), 0);
}

TEST_F(Refusals, IdOfALiveRequestCannotBeTakenAgain) {
  const auto occupant = server_->Connect();
  v1::GenerateRequest request = GreedyRequest({5, 6}, 100'000);
  request.set_request_id("taken");
  grpc::ClientContext context;
  const std::jthread first(
      [&] { ReadAnswer(occupant->stub(), context, request, nullptr); });
  server_->AwaitStats([](const auto& s) { return s.running_requests() == 1; });
  EXPECT_EQ(Generate(request).status.error_code(),
            grpc::StatusCode::ALREADY_EXISTS);
  context.TryCancel();
}

TEST_F(Refusals, CancelFromAnotherConnectionEndsTheRequest) {
  v1::GenerateRequest request = GreedyRequest({5, 6}, 100'000);
  request.set_request_id("to-end");
  Answer answer;
  std::jthread first([&] { answer = Generate(request); });
  server_->AwaitStats([](const auto& s) { return s.running_requests() == 1; });
  EXPECT_EQ(server_->Client("cancel", {"to-end"}).status, 0);
  first.join();
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::CANCELLED);
  ASSERT_TRUE(answer.finish.has_value());
  EXPECT_EQ(answer.finish->reason(), v1::FINISH_REASON_CANCELLED);
}

}  // namespace
}  // namespace sentencekv
