#include "server/generate_service.h"

#include <span>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "cache/kv_policy.h"
#include "kernels/version.h"
#include "server/call_metadata.h"
#include "server/logging.h"
#include "server/process_stats.h"
#include "server/request_translation.h"
#include "server/request_validation.h"
#include "server/status_mapping.h"
#include "tokenizer/incremental_decoder.h"

namespace sentencekv {

GenerateService::GenerateService(const ServedModel& model, StreamPump& pump,
                                 EngineMetrics* metrics)
    : shared_{&model, &pump, metrics}, model_(model), started_(absl::Now()) {}

grpc::ServerWriteReactor<v1::GenerateResponse>* GenerateService::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  return GenerateCall::Start(shared_, context, *request);
}

grpc::ServerUnaryReactor* GenerateService::Tokenize(
    grpc::CallbackServerContext* context, const v1::TokenizeRequest* request,
    v1::TokenizeResponse* response) {
  return End(context, RpcMethod::kTokenize, DoTokenize(*request, response));
}

grpc::ServerUnaryReactor* GenerateService::Detokenize(
    grpc::CallbackServerContext* context, const v1::DetokenizeRequest* request,
    v1::DetokenizeResponse* response) {
  return End(context, RpcMethod::kDetokenize, DoDetokenize(*request, response));
}

grpc::ServerUnaryReactor* GenerateService::GetModel(
    grpc::CallbackServerContext* context, const v1::GetModelRequest* request,
    v1::GetModelResponse* response) {
  return End(context, RpcMethod::kGetModel, DoGetModel(*request, response));
}

grpc::ServerUnaryReactor* GenerateService::GetStats(
    grpc::CallbackServerContext* context, const v1::GetStatsRequest*,
    v1::GetStatsResponse* response) {
  DoGetStats(response);
  return End(context, RpcMethod::kGetStats, grpc::Status::OK);
}

grpc::ServerUnaryReactor* GenerateService::Cancel(
    grpc::CallbackServerContext* context, const v1::CancelRequest* request,
    v1::CancelResponse*) {
  return End(context, RpcMethod::kCancel, DoCancel(*request));
}

// The engine answers between two steps, from its own thread. Asking for the
// default reactor makes a new one, so that is done once.
grpc::ServerUnaryReactor* GenerateService::ResetCache(
    grpc::CallbackServerContext* context, const v1::ResetCacheRequest*,
    v1::ResetCacheResponse* response) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  model_.engine->ResetPrefixCache([this, context, reactor, response](
                                      absl::StatusOr<int64_t> dropped_tokens) {
    grpc::Status status;
    if (dropped_tokens.ok()) {
      response->set_dropped_tokens(*dropped_tokens);
      LogEvent(spdlog::level::info, "prefix cache reset",
               {{"dropped_tokens", *dropped_tokens}});
    } else {
      status = Refused(dropped_tokens.status(), /*input_field=*/"");
    }
    Conclude(context, RpcMethod::kResetCache, status);
    reactor->Finish(status);
  });
  return reactor;
}

grpc::Status GenerateService::DoTokenize(const v1::TokenizeRequest& request,
                                         v1::TokenizeResponse* response) const {
  std::vector<int32_t> tokens;
  const grpc::Status status = Translate(request, model_, &tokens);
  if (!status.ok()) return status;
  response->mutable_token_ids()->Add(tokens.begin(), tokens.end());
  if (!request.with_bytes()) return grpc::Status::OK;
  for (const int32_t id : tokens)
    response->add_token_bytes(
        model_.tokenizer->TokenBytes(id, /*render_special=*/true));
  return grpc::Status::OK;
}

grpc::Status GenerateService::DoDetokenize(
    const v1::DetokenizeRequest& request,
    v1::DetokenizeResponse* response) const {
  const grpc::Status status =
      CheckModel(request.has_model(), request.model(), model_);
  if (!status.ok()) return status;
  const std::vector<FieldViolation> violations =
      Validate(request, model_.limits());
  if (!violations.empty()) return InvalidRequest(violations);
  IncrementalDecoder decoder(*model_.tokenizer, request.render_special(),
                             /*at_text_start=*/true);
  std::string* text = response->mutable_text();
  for (const int32_t id : request.token_ids()) text->append(decoder.Append(id));
  text->append(decoder.Finish());
  return grpc::Status::OK;
}

grpc::Status GenerateService::DoGetModel(const v1::GetModelRequest& request,
                                         v1::GetModelResponse* response) const {
  const grpc::Status status =
      CheckModel(request.has_model(), request.model(), model_);
  if (!status.ok()) return status;
  const ModelInfo& info = model_.engine->model_info();
  response->set_name(model_.name);
  response->set_description(info.name);
  response->set_architecture(info.architecture);
  response->set_quantization(info.quantization);
  response->set_parameters(info.num_parameters);
  response->set_weight_bytes(info.weight_bytes);
  response->set_layers(info.num_layers);
  response->set_heads(info.num_heads);
  response->set_kv_heads(info.num_kv_heads);
  response->set_head_dim(info.head_dim);
  response->set_vocab_size(info.vocab_size);
  response->set_context_length(info.context_length);
  response->set_max_request_tokens(model_.engine->max_request_tokens());
  response->set_chat_format(std::string(Name(model_.chat_style.format)));
  for (const std::string_view name : KvPolicyNames())
    response->add_kv_policies(std::string(name));
  response->set_default_kv_policy(model_.default_kv_policy);
  response->set_backend(model_.backend);
  response->set_server_version(kVersion);
  const std::span<const int32_t> stop_ids = model_.tokenizer->stop_ids();
  response->mutable_stop_token_ids()->Add(stop_ids.begin(), stop_ids.end());
  return grpc::Status::OK;
}

void GenerateService::DoGetStats(v1::GetStatsResponse* response) const {
  const EngineStats stats = model_.engine->stats();
  response->set_running_requests(stats.running);
  response->set_waiting_requests(stats.waiting);
  response->set_waiting_tokens(stats.waiting_tokens);
  response->set_kv_pages_total(stats.pages_total);
  response->set_kv_pages_free(stats.pages_free);
  response->set_kv_pages_used(stats.pages_used);
  response->set_kv_pages_cached(stats.pages_cached);
  response->set_prefix_query_tokens(stats.prefix_query_tokens);
  response->set_prefix_hit_tokens(stats.prefix_hit_tokens);
  response->set_prefix_evictions(stats.prefix_evictions);
  response->set_page_tokens(stats.page_tokens);
  response->set_requests_finished(stats.requests_finished);
  response->set_prompt_tokens(stats.prompt_tokens);
  response->set_generated_tokens(stats.generated_tokens);
  response->set_preemptions(stats.preemptions);
  response->set_steps(stats.steps);
  response->set_draining(stats.draining);
  response->set_uptime_seconds(absl::ToDoubleSeconds(absl::Now() - started_));
  const ProcessStats process = ReadProcessStats();
  response->set_resident_bytes(process.resident_bytes);
  response->set_threads(process.threads);
}

grpc::Status GenerateService::DoCancel(const v1::CancelRequest& request) const {
  const std::vector<FieldViolation> violations = Validate(request);
  if (!violations.empty()) return InvalidRequest(violations);
  const absl::Status status = model_.engine->Cancel(request.request_id());
  if (absl::IsNotFound(status)) return UnknownRequest();
  if (!status.ok()) return Refused(status, "request_id");
  LogEvent(spdlog::level::info, "request cancelled by Cancel",
           {{"request_id", request.request_id()}});
  return grpc::Status::OK;
}

grpc::ServerUnaryReactor* GenerateService::End(
    grpc::CallbackServerContext* context, RpcMethod method,
    const grpc::Status& status) const {
  Conclude(context, method, status);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(status);
  return reactor;
}

void GenerateService::Conclude(grpc::CallbackServerContext* context,
                               RpcMethod method,
                               const grpc::Status& status) const {
  const CallMetadata metadata = ReadCallMetadata(*context);
  EchoCallMetadata(metadata, metadata.request_id, context);
  if (shared_.metrics != nullptr)
    shared_.metrics->OnRpc(method, status.error_code());
}

}  // namespace sentencekv
