#include "server/front_end.h"

#include <utility>

#include "kernels/status_macros.h"
#include "server/logging.h"

namespace sentencekv {
namespace {

// After the engine's last event, the time that clients have to read what is
// still on its way to them.
constexpr absl::Duration kLastWrites = absl::Seconds(5);
// For calls that the drain does not wait for: health watches never end.
constexpr absl::Duration kOtherCalls = absl::Milliseconds(200);

}  // namespace

absl::StatusOr<std::unique_ptr<FrontEnd>> FrontEnd::Start(
    const FrontEndOptions& options, ServedModel model,
    std::shared_ptr<EngineMetrics> metrics) {
  std::unique_ptr<FrontEnd> front_end(
      new FrontEnd(options, std::move(model), std::move(metrics)));
  if (options.metrics_listen.has_value()) {
    SKV_ASSIGN_OR_RETURN(
        front_end->exposer_,
        MetricsExposer::Start(*options.metrics_listen, front_end->metrics_));
  }
  SKV_ASSIGN_OR_RETURN(
      front_end->grpc_,
      GrpcServer::Start(options.grpc, {{v1::SentenceKv::service_full_name(),
                                        &front_end->service_}}));
  return front_end;
}

FrontEnd::FrontEnd(const FrontEndOptions& options, ServedModel model,
                   std::shared_ptr<EngineMetrics> metrics)
    : model_(std::move(model)),
      metrics_(std::move(metrics)),
      pump_(options.slow_reader_timeout),
      service_(model_, pump_, metrics_.get()) {
  metrics_->SetStatsSource(
      [engine = model_.engine] { return engine->stats(); });
}

FrontEnd::~FrontEnd() {
  if (!drained_ && grpc_ != nullptr) Drain(absl::ZeroDuration());
  metrics_->SetStatsSource(nullptr);
}

bool FrontEnd::Drain(absl::Duration timeout) {
  drained_ = true;
  // Health first: clients that watch it go away before they are refused.
  grpc_->SetNotServing();
  model_.engine->BeginDrain();
  bool clean = model_.engine->AwaitIdle(timeout);
  if (!clean) {
    LogEvent(spdlog::level::warn, "drain timeout: cancelling what still runs",
             {{"requests", pump_.num_streams()}});
  }
  {
    absl::MutexLock lock(&mutex_);
    clean = clean && !aborted_;
  }
  // The last messages of requests that have finished are still being written.
  if (clean) clean = pump_.AwaitNone(kLastWrites);
  model_.engine->Stop();
  if (!clean) pump_.AwaitNone(kOtherCalls);
  grpc_->Shutdown(kOtherCalls);
  return clean;
}

void FrontEnd::Abort() {
  {
    absl::MutexLock lock(&mutex_);
    aborted_ = true;
  }
  model_.engine->Stop();
}

}  // namespace sentencekv
