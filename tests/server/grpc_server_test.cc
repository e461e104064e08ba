// Limits, health, reflection and addresses, seen by a client.
#include "server/grpc_server.h"

#include <grpcpp/generic/generic_stub.h>

#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/server/server_fixture.h"
#include "tests/support/test_files.h"

namespace sentencekv {
namespace {

namespace health = grpc::health::v1;

class GrpcServerTest : public ServerFixture {
 protected:
  grpc::StatusCode Check(const std::string& service,
                         health::HealthCheckResponse* response) {
    auto stub = health::Health::NewStub(NewChannel());
    grpc::ClientContext context;
    health::HealthCheckRequest request;
    request.set_service(service);
    return stub->Check(&context, request, response).error_code();
  }

  // Whether a bidirectional call of `method` is known.
  grpc::StatusCode CallMethod(const std::string& method) {
    grpc::GenericStub stub(NewChannel());
    grpc::CompletionQueue queue;
    grpc::ClientContext context;
    auto call = stub.PrepareCall(&context, method, &queue);
    void* tag = nullptr;
    bool ok = false;
    call->StartCall(nullptr);
    queue.Next(&tag, &ok);
    call->WritesDone(nullptr);
    queue.Next(&tag, &ok);
    grpc::Status status;
    call->Finish(&status, nullptr);
    queue.Next(&tag, &ok);
    return status.error_code();
  }
};

TEST_F(GrpcServerTest, HealthIsServingForTheServerAndTheService) {
  for (const char* service : {"", "sentencekv.v1.SentenceKv"}) {
    health::HealthCheckResponse response;
    EXPECT_EQ(Check(service, &response), grpc::StatusCode::OK) << service;
    EXPECT_EQ(response.status(), health::HealthCheckResponse::SERVING);
  }
  health::HealthCheckResponse response;
  EXPECT_EQ(Check("unknown", &response), grpc::StatusCode::NOT_FOUND);
}

TEST_F(GrpcServerTest, HealthWatchSeesTheDrain) {
  auto stub = health::Health::NewStub(NewChannel());
  for (const char* service : {"", "sentencekv.v1.SentenceKv"}) {
    StartServer(DefaultOptions());
    stub = health::Health::NewStub(NewChannel());
    grpc::ClientContext context;
    health::HealthCheckRequest request;
    request.set_service(service);
    auto reader = stub->Watch(&context, request);
    health::HealthCheckResponse response;
    ASSERT_TRUE(reader->Read(&response));
    EXPECT_EQ(response.status(), health::HealthCheckResponse::SERVING);
    const absl::Time start = absl::Now();
    // An open watch does not hold up the end.
    EXPECT_TRUE(front_end_->Drain(absl::Hours(1)));
    EXPECT_LT(absl::Now() - start, kPatience);
    ASSERT_TRUE(reader->Read(&response));
    EXPECT_EQ(response.status(), health::HealthCheckResponse::NOT_SERVING);
    reader->Finish();
  }
}

TEST_F(GrpcServerTest, HealthWatchOfAnUnknownServiceSaysSo) {
  auto stub = health::Health::NewStub(NewChannel());
  grpc::ClientContext context;
  health::HealthCheckRequest request;
  request.set_service("unknown");
  auto reader = stub->Watch(&context, request);
  health::HealthCheckResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.status(), health::HealthCheckResponse::SERVICE_UNKNOWN);
  context.TryCancel();
  reader->Finish();
}

constexpr char kReflection[] =
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

TEST_F(GrpcServerTest, ReflectionIsThereUnlessTurnedOff) {
  EXPECT_EQ(CallMethod(kReflection), grpc::StatusCode::OK);
  FrontEndOptions options = DefaultOptions();
  options.grpc.reflection = false;
  StartServer(options);
  EXPECT_EQ(CallMethod(kReflection), grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(GrpcServerTest, ForeignServicesAreUnimplemented) {
  EXPECT_EQ(CallMethod("/vllm.grpc.engine.VllmEngine/HealthCheck"),
            grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(GrpcServerTest, AMessageBeyondTheLimitIsRefused) {
  AnswerHello();
  const Answer answer = Generate(TextRequest(std::string(20 << 20, 'a')));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(engine_->num_submitted(), 0u);
  // The server is as well as before.
  EXPECT_TRUE(Generate(TextRequest("hi")).status.ok());
}

TEST_F(GrpcServerTest, APromptBelowTheLimitButTooLongIsInvalid) {
  const Answer answer = Generate(TextRequest(std::string(15 << 20, 'a')));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FieldsOf(answer.status), std::vector<std::string>{"text"});
}

TEST_F(GrpcServerTest, MetadataBeyondTheLimitIsRefused) {
  AnswerHello();
  const Answer large =
      Generate(TextRequest("hi"), {{"x-padding", std::string(20 << 10, 'a')}});
  EXPECT_EQ(large.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(engine_->num_submitted(), 0u);
  // gRPC closes the connection of such a call soon after; a call that was
  // begun on it would end with it.
  stub_ = v1::SentenceKv::NewStub(NewChannel());
  const Answer fits =
      Generate(TextRequest("hi"), {{"x-padding", std::string(8 << 10, 'a')}});
  EXPECT_TRUE(fits.status.ok()) << fits.status.error_message();
}

// proto3 strings are UTF-8; the parser refuses anything else before us.
TEST_F(GrpcServerTest, ABrokenMessageIsRefused) {
  grpc::GenericStub stub(NewChannel());
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  const std::string field = "\x1A\x02\xC3\x28";  // text = "\xC3("
  grpc::Slice slice(field);
  grpc::ByteBuffer request(&slice, 1);
  auto call = stub.PrepareUnaryCall(
      &context, "/sentencekv.v1.SentenceKv/Generate", request, &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(engine_->num_submitted(), 0u);
}

TEST_F(GrpcServerTest, StreamsBeyondTheLimitWait) {
  FrontEndOptions options = DefaultOptions();
  options.grpc.limits.max_streams = 1;
  StartServer(options);
  grpc::ClientContext first_context;
  auto first = stub_->Generate(&first_context, TextRequest("one"));
  ASSERT_TRUE(engine_->AwaitSubmitted(0, kPatience));
  // The limit is the connection's: a second call waits in the client.
  grpc::ClientContext second_context;
  second_context.set_deadline(
      absl::ToChronoTime(absl::Now() + absl::Milliseconds(200)));
  auto second = stub_->Generate(&second_context, TextRequest("two"));
  EXPECT_EQ(second->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(engine_->num_submitted(), 1u);
  Abandon(first_context, *first);
}

TEST_F(GrpcServerTest, ASecondServerOnThePortFails) {
  FrontEndOptions options = DefaultOptions();
  options.metrics_listen.reset();
  options.grpc.listen.port = front_end_->grpc_port();
  const absl::StatusOr<std::unique_ptr<FrontEnd>> second = FrontEnd::Start(
      options, {.name = "x", .engine = engine_.get(), .tokenizer = &tokenizer_},
      metrics_);
  EXPECT_TRUE(absl::IsUnavailable(second.status())) << second.status();
}

TEST_F(GrpcServerTest, UnixSocketsWorkAndAreNotTakenOver) {
  const std::string path = MakeTempDir() + "/server.sock";
  FrontEndOptions options = DefaultOptions();
  options.metrics_listen.reset();
  options.grpc.listen = {.unix_path = path};
  StartServer(options);
  EXPECT_EQ(front_end_->grpc_port(), 0);
  AnswerHello();
  stub_ = v1::SentenceKv::NewStub(
      grpc::CreateChannel("unix:" + path, grpc::InsecureChannelCredentials()));
  EXPECT_EQ(Generate(TextRequest("hi")).text, "Hello");
  const absl::StatusOr<std::unique_ptr<FrontEnd>> second = FrontEnd::Start(
      options, {.name = "x", .engine = engine_.get(), .tokenizer = &tokenizer_},
      metrics_);
  EXPECT_TRUE(absl::IsUnavailable(second.status()));
  EXPECT_EQ(Generate(TextRequest("hi")).text, "Hello");
}

TEST_F(GrpcServerTest, AnAddressOfAnotherMachineFails) {
  FrontEndOptions options = DefaultOptions();
  options.metrics_listen.reset();
  options.grpc.listen = {.host = "192.0.2.1", .port = 0};  // RFC 5737
  const absl::StatusOr<std::unique_ptr<FrontEnd>> front_end = FrontEnd::Start(
      options, {.name = "x", .engine = engine_.get(), .tokenizer = &tokenizer_},
      metrics_);
  EXPECT_TRUE(absl::IsUnavailable(front_end.status()));
}

}  // namespace
}  // namespace sentencekv
