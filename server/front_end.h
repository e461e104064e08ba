// Everything between the network and the engine: services, gRPC server,
// metrics endpoint, and the order in which they come and go.
#pragma once

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/engine_metrics.h"
#include "server/generate_service.h"
#include "server/grpc_server.h"
#include "server/metrics_exposer.h"
#include "server/served_model.h"
#include "server/stream_pump.h"

namespace sentencekv {

struct FrontEndOptions {
  GrpcServerOptions grpc;
  std::optional<ListenAddress> metrics_listen;
  absl::Duration slow_reader_timeout = absl::Seconds(30);
};

// Serves from Start to Drain. Drain from one thread; Abort from any.
class FrontEnd {
 public:
  // Listens. The engine of `model` must outlive this. `metrics` is what
  // observes the engine. kUnavailable when an address cannot be listened on.
  static absl::StatusOr<std::unique_ptr<FrontEnd>> Start(
      const FrontEndOptions& options, ServedModel model,
      std::shared_ptr<EngineMetrics> metrics);
  // Drains with no time left, if Drain was not called.
  ~FrontEnd();
  FrontEnd(const FrontEnd&) = delete;
  FrontEnd& operator=(const FrontEnd&) = delete;

  int grpc_port() const { return grpc_->port(); }
  int metrics_port() const { return exposer_ ? exposer_->port() : 0; }  // or 0

  // Health says NOT_SERVING, new requests are refused, running ones have
  // `timeout` to finish and are then cancelled; returns when the server has
  // stopped. True when no request had to be cancelled.
  bool Drain(absl::Duration timeout);

  // Cancels every request now: a Drain under way returns at once.
  void Abort();

 private:
  FrontEnd(const FrontEndOptions& options, ServedModel model,
           std::shared_ptr<EngineMetrics> metrics);

  const ServedModel model_;
  const std::shared_ptr<EngineMetrics> metrics_;
  StreamPump pump_;
  GenerateService service_;
  std::unique_ptr<GrpcServer> grpc_;
  std::unique_ptr<MetricsExposer> exposer_;  // null when off
  bool drained_ = false;
  absl::Mutex mutex_;
  bool aborted_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sentencekv
