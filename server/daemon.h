// The composition root: from a configuration to a process that serves, and
// back. main() contains nothing but a call of RunDaemon, so that tests run the
// same code.
#pragma once

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cache/kv_memory.h"
#include "cache/page_pool.h"
#include "engine/clock.h"
#include "engine/engine.h"
#include "engine/model_loader.h"
#include "kernels/backend.h"
#include "server/backend_choice.h"
#include "server/front_end.h"
#include "server/server_config.h"

namespace sentencekv {

// A failure to start, with the exit code it leads to.
struct StartError {
  ExitCode exit_code = ExitCode::kOther;
  absl::Status status;
};

// A server with everything below it. Start, Drain and the destructor on one
// thread; Abort on any.
class Daemon {
 public:
  Daemon() = default;
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // What to do when the device is lost and no request can be served any more;
  // called from another thread, more than once perhaps. Before Start.
  void SetOnDeviceLost(std::function<void()> on_device_lost) {
    on_device_lost_ = std::move(on_device_lost);
  }

  // Loads the model, starts the engine and listens; status OK on success.
  // Once.
  StartError Start(const ServerConfig& config,
                   const BackendMaker& make_cuda = nullptr);

  int grpc_port() const { return front_end_->grpc_port(); }
  int metrics_port() const { return front_end_->metrics_port(); }
  // "listening on HOST:PORT, metrics on ..., model ..., N pages".
  std::string ReadyLine() const;

  // As FrontEnd.
  bool Drain(absl::Duration timeout) { return front_end_->Drain(timeout); }
  void Abort() { front_end_->Abort(); }

 private:
  absl::Status LoadModelOnto(const ServerConfig& config);
  absl::Status StartEngine(const ServerConfig& config);

  // In the order of construction: each may borrow from those above it.
  ServerConfig config_;
  std::function<void()> on_device_lost_;
  SystemClock clock_;
  std::unique_ptr<Backend> backend_;
  LoadedModel loaded_;
  ChatStyle chat_style_;
  std::unique_ptr<PagePool> pool_;
  std::unique_ptr<KvMemory> memory_;
  std::shared_ptr<EngineMetrics> metrics_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<FrontEnd> front_end_;
};

// The name that requests use when --model_name is not given: the file's
// without ".gguf", or the folder's.
std::string DefaultModelName(const std::string& path);

// Runs the whole process: flags, start, signals, drain. Returns the exit code.
// `make_cuda` is empty in a program without the CUDA backend.
int RunDaemon(int argc, const char* const* argv, std::ostream& out,
              std::ostream& error, const BackendMaker& make_cuda = nullptr);

}  // namespace sentencekv
