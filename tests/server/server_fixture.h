// A whole front end on a free port, with a FakeEngine below it and a client
// above it.
#pragma once

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "sentencekv/v1/sentencekv.grpc.pb.h"
#include "server/front_end.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/fake_engine.h"

namespace sentencekv {

// Longer than anything takes; reached only when a test fails.
inline constexpr absl::Duration kPatience = absl::Seconds(20);

// The detail of type T that came with `status`; a default one when none did.
template <typename T>
T DetailOf(const grpc::Status& status) {
  google::rpc::Status rich;
  T detail;
  if (!rich.ParseFromString(status.error_details())) return detail;
  for (const google::protobuf::Any& any : rich.details()) {
    if (any.UnpackTo(&detail)) return detail;
  }
  return T();
}

inline std::string ReasonOf(const grpc::Status& status) {
  return DetailOf<google::rpc::ErrorInfo>(status).reason();
}

// Fields of the BadRequest that came with `status`.
inline std::vector<std::string> FieldsOf(const grpc::Status& status) {
  const auto bad_request = DetailOf<google::rpc::BadRequest>(status);
  std::vector<std::string> fields;
  for (const auto& violation : bad_request.field_violations())
    fields.push_back(violation.field());
  return fields;
}

// Hangs up. A synchronous stream must be read to its end before Finish.
inline grpc::Status Abandon(grpc::ClientContext& context,
                            grpc::ClientReader<v1::GenerateResponse>& reader) {
  context.TryCancel();
  v1::GenerateResponse message;
  while (reader.Read(&message)) {
  }
  return reader.Finish();
}

class ServerFixture : public ::testing::Test {
 protected:
  static FrontEndOptions DefaultOptions() {
    FrontEndOptions options;
    options.grpc.listen = {.host = "127.0.0.1", .port = 0};
    options.metrics_listen = ListenAddress{.host = "127.0.0.1", .port = 0};
    return options;
  }

  void SetUp() override { StartServer(DefaultOptions()); }

  void StartServer(const FrontEndOptions& options) {
    front_end_.reset();
    engine_ = std::make_unique<FakeEngine>();
    metrics_ = std::make_shared<EngineMetrics>(
        "fake-model", engine_->model_info(), "fake backend");
    absl::StatusOr<std::unique_ptr<FrontEnd>> front_end =
        FrontEnd::Start(options,
                        {.name = "fake-model",
                         .backend = "fake backend",
                         .default_kv_policy = "full",
                         .chat_style = {.format = ChatFormat::kChatMl},
                         .engine = engine_.get(),
                         .tokenizer = &tokenizer_},
                        metrics_);
    ASSERT_TRUE(front_end.ok()) << front_end.status();
    front_end_ = *std::move(front_end);
    stub_ = v1::SentenceKv::NewStub(NewChannel());
  }

  std::string address() const {
    return "127.0.0.1:" + std::to_string(front_end_->grpc_port());
  }

  std::shared_ptr<grpc::Channel> NewChannel() const {
    grpc::ChannelArguments arguments;
    // Channels to the same address would otherwise share one connection.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    // A fixed window of 64 KiB, so that a reader that does not read is felt.
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    return grpc::CreateCustomChannel(
        address(), grpc::InsecureChannelCredentials(), arguments);
  }

  static v1::GenerateRequest TextRequest(std::string text) {
    v1::GenerateRequest request;
    request.set_text(std::move(text));
    return request;
  }

  // Everything that Generate answers.
  struct Answer {
    std::vector<v1::GenerateResponse> messages;
    grpc::Status status;
    std::string text;
    std::string echoed_id;
    std::string echoed_traceparent;
  };

  Answer Generate(
      const v1::GenerateRequest& request,
      const std::vector<std::pair<std::string, std::string>>& metadata = {}) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
    for (const auto& [name, value] : metadata) context.AddMetadata(name, value);
    std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader =
        stub_->Generate(&context, request);
    Answer answer;
    v1::GenerateResponse message;
    while (reader->Read(&message)) {
      answer.text += message.text();
      answer.messages.push_back(message);
    }
    answer.status = reader->Finish();
    const auto header = [&](const char* name) {
      const auto& headers = context.GetServerInitialMetadata();
      const auto entry = headers.find(name);
      return entry == headers.end()
                 ? std::string()
                 : std::string(entry->second.data(), entry->second.size());
    };
    answer.echoed_id = header("x-request-id");
    answer.echoed_traceparent = header("traceparent");
    return answer;
  }

  // From now on every request is answered "Hello" and stops.
  void AnswerHello() {
    Usage usage;
    usage.prompt_tokens = 3;
    usage.generated_tokens = 2;
    usage.total_time = absl::Milliseconds(250);
    engine_->AnswerWith({FakeEngine::TextEvent("Hel", {72}),
                         FakeEngine::TextEvent("lo", {111}),
                         FakeEngine::FinishEvent(FinishReason::kStop, usage)});
  }

  // Another one for each server: a drained engine stays drained.
  std::unique_ptr<FakeEngine> engine_;
  ByteTokenizer tokenizer_;
  std::shared_ptr<EngineMetrics> metrics_;
  std::unique_ptr<FrontEnd> front_end_;
  std::unique_ptr<v1::SentenceKv::Stub> stub_;
};

}  // namespace sentencekv
