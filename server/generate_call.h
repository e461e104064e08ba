// One Generate RPC from its first byte to its last: accepts the request,
// writes what the engine publishes, and ends once, whichever of the client,
// the engine and the connection ends first.
//
// Life: a call keeps itself alive until gRPC reports OnDone. It ends only
// after its stream's last event, so the log and the metrics always have the
// request's usage. At most one write is under way; events that arrive
// meanwhile become one message.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/token_stream.h"
#include "sentencekv/v1/sentencekv.pb.h"
#include "server/engine_metrics.h"
#include "server/served_model.h"
#include "server/stream_pump.h"

namespace sentencekv {

class GenerateCall final
    : public grpc::ServerWriteReactor<v1::GenerateResponse>,
      public PumpedStream,
      public std::enable_shared_from_this<GenerateCall> {
 public:
  // What calls share; all of it outlives them.
  struct Shared {
    const ServedModel* model = nullptr;
    StreamPump* pump = nullptr;
    EngineMetrics* metrics = nullptr;  // null: none
  };

  // Starts a call and returns it to gRPC. Validates and tokenises on this
  // thread.
  static grpc::ServerWriteReactor<v1::GenerateResponse>* Start(
      const Shared& shared, grpc::CallbackServerContext* context,
      const v1::GenerateRequest& request);

  GenerateCall(const Shared& shared, grpc::CallbackServerContext* context);

  // PumpedStream
  void Pump() override;
  void AbortWhenStalled(absl::Time now, absl::Duration timeout) override;

  // gRPC's reactions
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  // Submits the request; not OK when it is refused.
  grpc::Status Submit(const v1::GenerateRequest& request);
  void LogAccepted(size_t prompt_tokens) const;
  void LogEnd() const;

  const Shared shared_;
  const std::string peer_;
  std::shared_ptr<GenerateCall> self_;   // until OnDone
  std::shared_ptr<TokenStream> stream_;  // null when refused; set by Start
  std::string request_id_;               // set by Start

  // Guards the context against its end while TryCancel runs. Recursive because
  // gRPC may run OnDone inside TryCancel, on the same thread.
  std::recursive_mutex context_mutex_;
  grpc::CallbackServerContext* context_;  // null after OnDone

  absl::Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finishing_ ABSL_GUARDED_BY(mutex_) = false;  // nothing more is started
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;       // nobody reads any more
  absl::Time write_started_ ABSL_GUARDED_BY(mutex_);

  // Owned by whoever has set writing_ or finishing_.
  v1::GenerateResponse response_;
  std::optional<sentencekv::Finish> finish_;
  grpc::StatusCode code_ = grpc::StatusCode::OK;
};

}  // namespace sentencekv
