#include "server/generate_call.h"

#include <chrono>
#include <utility>

#include "absl/time/clock.h"
#include "server/call_metadata.h"
#include "server/logging.h"
#include "server/request_translation.h"
#include "server/status_mapping.h"

namespace sentencekv {
namespace {

double Milliseconds(absl::Duration duration) {
  return absl::ToDoubleMilliseconds(duration);
}

}  // namespace

grpc::ServerWriteReactor<v1::GenerateResponse>* GenerateCall::Start(
    const Shared& shared, grpc::CallbackServerContext* context,
    const v1::GenerateRequest& request) {
  auto call = std::make_shared<GenerateCall>(shared, context);
  call->self_ = call;
  shared.pump->Add(call.get(), call);
  const grpc::Status status = call->Submit(request);
  if (!status.ok()) {
    call->code_ = status.error_code();
    LogEvent(spdlog::level::info, "request refused",
             {{"request_id", call->request_id_},
              {"code", Name(status.error_code())},
              {"reason", status.error_message()},
              {"peer", call->peer_}});
    {
      absl::MutexLock lock(&call->mutex_);
      call->finishing_ = true;
      call->write_started_ = absl::Now();
    }
    call->Finish(status);
    return call.get();
  }
  call->StartSendInitialMetadata();
  call->stream_->SetReadyCallback(
      [pump = shared.pump, weak = std::weak_ptr<GenerateCall>(call)] {
        pump->Post(weak);
      });
  return call.get();
}

GenerateCall::GenerateCall(const Shared& shared,
                           grpc::CallbackServerContext* context)
    : shared_(shared), peer_(context->peer()), context_(context) {}

grpc::Status GenerateCall::Submit(const v1::GenerateRequest& request) {
  const CallMetadata metadata = ReadCallMetadata(*context_);
  request_id_ =
      request.has_request_id() ? request.request_id() : metadata.request_id;
  // An id that is not allowed is refused below, and kept out of the log.
  if (!IsValidRequestId(request_id_)) request_id_.clear();
  EchoCallMetadata(metadata, request_id_, context_);
  if (!metadata.violations.empty()) return InvalidRequest(metadata.violations);
  GenerateRequest translated;
  grpc::Status status = Translate(request, *shared_.model, &translated);
  if (!status.ok()) return status;
  translated.request_id = request_id_;
  translated.deadline = DeadlineOf(*context_);
  const size_t prompt_tokens = translated.prompt.size();
  absl::StatusOr<std::shared_ptr<TokenStream>> stream =
      shared_.model->engine->Submit(std::move(translated));
  if (!stream.ok()) return Refused(stream.status(), InputField(request));
  stream_ = *std::move(stream);
  // The engine makes an id when the client has not.
  if (request_id_.empty()) {
    request_id_ = stream_->request_id();
    EchoCallMetadata({}, request_id_, context_);
  }
  LogAccepted(prompt_tokens);
  return grpc::Status::OK;
}

void GenerateCall::Pump() {
  bool gone = false;
  bool last = false;
  {
    absl::MutexLock lock(&mutex_);
    if (writing_ || finishing_) return;
    response_.Clear();
    bool any = false;
    while (std::optional<StreamEvent> event = stream_->TryPop()) {
      any = true;
      if (event->finish.has_value()) finish_ = event->finish;
      AppendEvent(*std::move(event), *shared_.model->tokenizer, &response_);
    }
    if (!any) return;
    gone = gone_;
    last = finish_.has_value();
    if (last) {
      finishing_ = true;
    } else if (gone) {
      return;  // dropped: the last event is still to come
    } else {
      writing_ = true;
    }
    write_started_ = absl::Now();
    response_.set_request_id(request_id_);
  }
  // Outside the lock: gRPC may run reactions inside these calls.
  if (!last) return StartWrite(&response_);
  const grpc::Status status = StatusOf(*finish_);
  code_ = status.error_code();
  if (gone) return Finish(status);
  StartWriteAndFinish(&response_, grpc::WriteOptions(), status);
}

void GenerateCall::OnWriteDone(bool ok) {
  {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) gone_ = true;
  }
  if (!ok) stream_->Cancel();
  Pump();
}

void GenerateCall::OnCancel() {
  {
    absl::MutexLock lock(&mutex_);
    gone_ = true;
  }
  // Also when the deadline has passed: gRPC cancels the call then. The last
  // event still comes and ends it.
  if (stream_ != nullptr) stream_->Cancel();
}

void GenerateCall::AbortWhenStalled(absl::Time now, absl::Duration timeout) {
  {
    absl::MutexLock lock(&mutex_);
    if (gone_ || !(writing_ || finishing_) || now - write_started_ < timeout)
      return;
    gone_ = true;
  }
  LogEvent(spdlog::level::warn, "client does not read its answer",
           {{"request_id", request_id_}, {"peer", peer_}});
  if (stream_ != nullptr) stream_->Cancel();
  const std::lock_guard<std::recursive_mutex> lock(context_mutex_);
  if (context_ != nullptr) context_->TryCancel();
}

void GenerateCall::OnDone() {
  {
    const std::lock_guard<std::recursive_mutex> lock(context_mutex_);
    context_ = nullptr;
  }
  if (stream_ != nullptr) LogEnd();
  if (shared_.metrics != nullptr)
    shared_.metrics->OnRpc(RpcMethod::kGenerate, code_);
  shared_.pump->Remove(this);
  // Possibly the last reference: nothing after this line.
  const std::shared_ptr<GenerateCall> self = std::move(self_);
}

void GenerateCall::LogAccepted(size_t prompt_tokens) const {
  LogEvent(spdlog::level::info, "request accepted",
           {{"request_id", request_id_},
            {"prompt_tokens", static_cast<int64_t>(prompt_tokens)},
            {"peer", peer_}});
}

void GenerateCall::LogEnd() const {
  const Usage& usage = finish_->usage;
  if (finish_->reason == FinishReason::kError) {
    const std::string details(finish_->status.message());
    LogEvent(spdlog::level::err, "request failed",
             {{"request_id", request_id_}, {"details", details}});
  }
  LogEvent(spdlog::level::info, "request finished",
           {{"request_id", request_id_},
            {"reason", Name(finish_->reason)},
            {"code", Name(code_)},
            {"prompt_tokens", usage.prompt_tokens},
            {"cached_tokens", usage.cached_tokens},
            {"generated_tokens", usage.generated_tokens},
            {"queue_ms", Milliseconds(usage.queue_time)},
            {"prefill_ms", Milliseconds(usage.prefill_time)},
            {"total_ms", Milliseconds(usage.total_time)},
            {"peer", peer_}});
}

}  // namespace sentencekv
