// A server in this process that answers by script, for the client's tests.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/server.h"
#include "sentencekv/v1/sentencekv.grpc.pb.h"

namespace sentencekv {

// Everything is set before the first call.
struct FakeScript {
  // The answer to each Generate: these messages, then `status`.
  std::vector<v1::GenerateResponse> messages;
  grpc::Status status;
  // After the messages, wait for the client to cancel.
  bool hang_until_cancelled = false;
  // Called after the messages were written, before hanging or ending.
  std::function<void(const v1::GenerateRequest&)> on_written;

  v1::TokenizeResponse tokenize;
  v1::DetokenizeResponse detokenize;
  v1::GetModelResponse model;
  v1::GetStatsResponse stats;
  v1::ResetCacheResponse reset_cache;
  grpc::Status other_status;  // of every call but Generate
  // Health: this many UNAVAILABLE answers, then `health`.
  int health_failures = 0;
  grpc::health::v1::HealthCheckResponse::ServingStatus health =
      grpc::health::v1::HealthCheckResponse::SERVING;
};

// Runs from construction to destruction, on a port of its own. Thread-safe.
class FakeService final : public v1::SentenceKv::Service,
                          public grpc::health::v1::Health::Service {
 public:
  explicit FakeService(FakeScript script);
  ~FakeService() override;

  const std::string& address() const { return address_; }
  std::vector<v1::GenerateRequest> generate_requests() const;
  std::vector<v1::TokenizeRequest> tokenize_requests() const;
  std::vector<v1::DetokenizeRequest> detokenize_requests() const;
  std::vector<v1::CancelRequest> cancel_requests() const;
  // Deadlines that clients sent, in seconds from the call's arrival; large
  // when there was none.
  std::vector<double> deadlines_seconds() const;

 private:
  grpc::Status Generate(
      grpc::ServerContext* context, const v1::GenerateRequest* request,
      grpc::ServerWriter<v1::GenerateResponse>* writer) override;
  grpc::Status Tokenize(grpc::ServerContext* context,
                        const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response) override;
  grpc::Status Detokenize(grpc::ServerContext* context,
                          const v1::DetokenizeRequest* request,
                          v1::DetokenizeResponse* response) override;
  grpc::Status GetModel(grpc::ServerContext* context,
                        const v1::GetModelRequest* request,
                        v1::GetModelResponse* response) override;
  grpc::Status GetStats(grpc::ServerContext* context,
                        const v1::GetStatsRequest* request,
                        v1::GetStatsResponse* response) override;
  grpc::Status Cancel(grpc::ServerContext* context,
                      const v1::CancelRequest* request,
                      v1::CancelResponse* response) override;
  grpc::Status ResetCache(grpc::ServerContext* context,
                          const v1::ResetCacheRequest* request,
                          v1::ResetCacheResponse* response) override;
  grpc::Status Check(grpc::ServerContext* context,
                     const grpc::health::v1::HealthCheckRequest* request,
                     grpc::health::v1::HealthCheckResponse* response) override;

  const FakeScript script_;
  mutable absl::Mutex mutex_;
  std::vector<v1::GenerateRequest> generate_requests_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::TokenizeRequest> tokenize_requests_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::DetokenizeRequest> detokenize_requests_
      ABSL_GUARDED_BY(mutex_);
  std::vector<v1::CancelRequest> cancel_requests_ ABSL_GUARDED_BY(mutex_);
  std::vector<double> deadlines_seconds_ ABSL_GUARDED_BY(mutex_);
  int health_checks_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

// A message with text and token ids.
v1::GenerateResponse Increment(const std::string& text,
                               const std::vector<int32_t>& token_ids);
// The last message: reason, and usage with these counts.
v1::GenerateResponse Last(v1::FinishReason reason, int64_t prompt_tokens,
                          int64_t generated_tokens);
// "Hello world" in two increments of one token each, ended by a stop.
FakeScript HelloWorld();
// A status with one field violation and a retry delay in its details.
grpc::Status DetailedStatus(grpc::StatusCode code, const std::string& message,
                            const std::string& field, const std::string& reason,
                            double retry_seconds);

}  // namespace sentencekv
