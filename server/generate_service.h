// The native interface, sentencekv.v1.SentenceKv, on gRPC's callback API.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include "absl/time/time.h"
#include "sentencekv/v1/sentencekv.grpc.pb.h"
#include "server/engine_metrics.h"
#include "server/generate_call.h"
#include "server/served_model.h"
#include "server/stream_pump.h"

namespace sentencekv {

// Thread-safe: gRPC calls it from its own threads. References and `metrics`
// (null: none) must outlive it.
class GenerateService final : public v1::SentenceKv::CallbackService {
 public:
  GenerateService(const ServedModel& model, StreamPump& pump,
                  EngineMetrics* metrics);

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context,
      const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(
      grpc::CallbackServerContext* context,
      const v1::DetokenizeRequest* request,
      v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;
  grpc::ServerUnaryReactor* GetStats(grpc::CallbackServerContext* context,
                                     const v1::GetStatsRequest* request,
                                     v1::GetStatsResponse* response) override;
  grpc::ServerUnaryReactor* Cancel(grpc::CallbackServerContext* context,
                                   const v1::CancelRequest* request,
                                   v1::CancelResponse* response) override;
  grpc::ServerUnaryReactor* ResetCache(
      grpc::CallbackServerContext* context,
      const v1::ResetCacheRequest* request,
      v1::ResetCacheResponse* response) override;

 private:
  grpc::Status DoTokenize(const v1::TokenizeRequest& request,
                          v1::TokenizeResponse* response) const;
  grpc::Status DoDetokenize(const v1::DetokenizeRequest& request,
                            v1::DetokenizeResponse* response) const;
  grpc::Status DoGetModel(const v1::GetModelRequest& request,
                          v1::GetModelResponse* response) const;
  void DoGetStats(v1::GetStatsResponse* response) const;
  grpc::Status DoCancel(const v1::CancelRequest& request) const;

  // Echoes the call's metadata and counts it: what is done before its end.
  void Conclude(grpc::CallbackServerContext* context, RpcMethod method,
                const grpc::Status& status) const;
  // Concludes the call and ends it with `status`.
  grpc::ServerUnaryReactor* End(grpc::CallbackServerContext* context,
                                RpcMethod method,
                                const grpc::Status& status) const;

  const GenerateCall::Shared shared_;
  const ServedModel& model_;
  const absl::Time started_;
};

}  // namespace sentencekv
