#include "tests/server/client/fake_service.h"

#include <chrono>
#include <thread>
#include <utility>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"
#include "kernels/check.h"

namespace sentencekv {

FakeService::FakeService(FakeScript script) : script_(std::move(script)) {
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &port);
  builder.RegisterService(static_cast<v1::SentenceKv::Service*>(this));
  builder.RegisterService(
      static_cast<grpc::health::v1::Health::Service*>(this));
  server_ = builder.BuildAndStart();
  SKV_CHECK(server_ != nullptr);
  address_ = "127.0.0.1:" + std::to_string(port);
}

FakeService::~FakeService() {
  server_->Shutdown(std::chrono::system_clock::now());
}

std::vector<v1::GenerateRequest> FakeService::generate_requests() const {
  absl::MutexLock lock(&mutex_);
  return generate_requests_;
}
std::vector<v1::TokenizeRequest> FakeService::tokenize_requests() const {
  absl::MutexLock lock(&mutex_);
  return tokenize_requests_;
}
std::vector<v1::DetokenizeRequest> FakeService::detokenize_requests() const {
  absl::MutexLock lock(&mutex_);
  return detokenize_requests_;
}
std::vector<v1::CancelRequest> FakeService::cancel_requests() const {
  absl::MutexLock lock(&mutex_);
  return cancel_requests_;
}
std::vector<double> FakeService::deadlines_seconds() const {
  absl::MutexLock lock(&mutex_);
  return deadlines_seconds_;
}

grpc::Status FakeService::Generate(
    grpc::ServerContext* context, const v1::GenerateRequest* request,
    grpc::ServerWriter<v1::GenerateResponse>* writer) {
  {
    absl::MutexLock lock(&mutex_);
    generate_requests_.push_back(*request);
    deadlines_seconds_.push_back(
        std::chrono::duration<double>(context->deadline() -
                                      std::chrono::system_clock::now())
            .count());
  }
  for (v1::GenerateResponse message : script_.messages) {
    message.set_request_id(request->has_request_id() ? request->request_id()
                                                     : "made-by-server");
    writer->Write(message);
  }
  if (script_.on_written) script_.on_written(*request);
  if (script_.hang_until_cancelled) {
    // The context offers no blocking wait in the synchronous interface.
    while (!context->IsCancelled()) std::this_thread::yield();
    return grpc::Status(grpc::StatusCode::CANCELLED, "cancelled");
  }
  return script_.status;
}

grpc::Status FakeService::Tokenize(grpc::ServerContext*,
                                   const v1::TokenizeRequest* request,
                                   v1::TokenizeResponse* response) {
  absl::MutexLock lock(&mutex_);
  tokenize_requests_.push_back(*request);
  *response = script_.tokenize;
  return script_.other_status;
}

grpc::Status FakeService::Detokenize(grpc::ServerContext*,
                                     const v1::DetokenizeRequest* request,
                                     v1::DetokenizeResponse* response) {
  absl::MutexLock lock(&mutex_);
  detokenize_requests_.push_back(*request);
  *response = script_.detokenize;
  return script_.other_status;
}

grpc::Status FakeService::GetModel(grpc::ServerContext*,
                                   const v1::GetModelRequest*,
                                   v1::GetModelResponse* response) {
  *response = script_.model;
  return script_.other_status;
}

grpc::Status FakeService::GetStats(grpc::ServerContext*,
                                   const v1::GetStatsRequest*,
                                   v1::GetStatsResponse* response) {
  *response = script_.stats;
  return script_.other_status;
}

grpc::Status FakeService::Cancel(grpc::ServerContext*,
                                 const v1::CancelRequest* request,
                                 v1::CancelResponse*) {
  absl::MutexLock lock(&mutex_);
  cancel_requests_.push_back(*request);
  return script_.other_status;
}

grpc::Status FakeService::ResetCache(grpc::ServerContext*,
                                     const v1::ResetCacheRequest*,
                                     v1::ResetCacheResponse* response) {
  *response = script_.reset_cache;
  return script_.other_status;
}

grpc::Status FakeService::Check(
    grpc::ServerContext*, const grpc::health::v1::HealthCheckRequest* request,
    grpc::health::v1::HealthCheckResponse* response) {
  absl::MutexLock lock(&mutex_);
  if (!request->service().empty() &&
      request->service() != "sentencekv.v1.SentenceKv") {
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "unknown service");
  }
  if (health_checks_++ < script_.health_failures) {
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "loading");
  }
  response->set_status(script_.health);
  return grpc::Status::OK;
}

v1::GenerateResponse Increment(const std::string& text,
                               const std::vector<int32_t>& token_ids) {
  v1::GenerateResponse message;
  message.set_text(text);
  for (const int32_t id : token_ids) message.add_token_ids(id);
  return message;
}

v1::GenerateResponse Last(v1::FinishReason reason, int64_t prompt_tokens,
                          int64_t generated_tokens) {
  v1::GenerateResponse message;
  v1::Finish* finish = message.mutable_finish();
  finish->set_reason(reason);
  finish->mutable_usage()->set_prompt_tokens(prompt_tokens);
  finish->mutable_usage()->set_generated_tokens(generated_tokens);
  return message;
}

FakeScript HelloWorld() {
  FakeScript script;
  script.messages = {Increment("Hello", {11}), Increment(" world", {12}),
                     Last(v1::FINISH_REASON_STOP, 3, 2)};
  return script;
}

grpc::Status DetailedStatus(grpc::StatusCode code, const std::string& message,
                            const std::string& field, const std::string& reason,
                            double retry_seconds) {
  google::rpc::BadRequest bad_request;
  auto* violation = bad_request.add_field_violations();
  violation->set_field(field);
  violation->set_description(reason);
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(static_cast<int64_t>(retry_seconds));
  retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(
      (retry_seconds - static_cast<int64_t>(retry_seconds)) * 1e9));
  google::rpc::Status details;
  details.set_code(code);
  details.set_message(message);
  details.add_details()->PackFrom(bad_request);
  details.add_details()->PackFrom(retry);
  return grpc::Status(code, message, details.SerializeAsString());
}

}  // namespace sentencekv
