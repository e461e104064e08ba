#include "server/daemon.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <ostream>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "engine/llm_engine.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/memory_budget.h"
#include "kernels/status_macros.h"
#include "kernels/version.h"
#include "server/flag_values.h"
#include "server/kv_sizes.h"
#include "server/logging.h"
#include "server/shutdown_signals.h"

namespace sentencekv {
namespace {

namespace fs = std::filesystem;

// Rows of logits that one step may ask for: one per running request, and
// enough that the log-probabilities of a prompt come in reasonable chunks.
constexpr int64_t kMinLogitsPerStep = 32;

// Logs how far a long load is, every few seconds.
std::function<void(double)> ProgressLogger() {
  return [last = absl::Now()](double fraction) mutable {
    const absl::Time now = absl::Now();
    if (now - last < absl::Seconds(3)) return;
    last = now;
    LogEvent(spdlog::level::info, "loading the model",
             {{"percent", static_cast<int64_t>(fraction * 100)}});
  };
}

// Settings that can be checked before minutes are spent on a model.
absl::Status CheckNames(const ServerConfig& config) {
  const absl::Status policy = ValidateKvOptions({.policy = config.kv_policy});
  if (!policy.ok()) return WithFlag("--kv_policy", policy);
  const absl::Status level = ParseCpuLevel(config.cpu_level).status();
  if (!level.ok()) return WithFlag("--cpu_level", level);
  if (config.chat_format.empty()) return absl::OkStatus();
  const absl::Status format = ParseChatFormat(config.chat_format).status();
  return format.ok() ? format : WithFlag("--chat_format", format);
}

absl::StatusOr<ChatStyle> ChooseChatStyle(const ServerConfig& config,
                                          const std::string& chat_template) {
  if (config.chat_format.empty()) return RecogniseChatTemplate(chat_template);
  SKV_ASSIGN_OR_RETURN(const ChatFormat format,
                       ParseChatFormat(config.chat_format));
  return ChatStyle{.format = format};
}

// Readers of the file see all of it or nothing.
absl::Status WritePortFile(const std::string& path, int grpc_port,
                           int metrics_port) {
  const std::string temporary = path + ".new";
  {
    std::ofstream file(temporary, std::ios::trunc);
    file << fmt::format("grpc_port={}\nmetrics_port={}\n", grpc_port,
                        metrics_port);
    file.flush();
    if (!file)
      return absl::UnavailableError(
          fmt::format("--port_file: cannot write {}", temporary));
  }
  std::error_code error;
  fs::rename(temporary, path, error);
  if (error)
    return absl::UnavailableError(fmt::format(
        "--port_file: cannot rename to {}: {}", path, error.message()));
  return absl::OkStatus();
}

// What a signal means depends on how far the process is.
class SignalPolicy {
 public:
  void OnSignal(int count) {
    absl::MutexLock lock(&mutex_);
    LogEvent(spdlog::level::info, "signal received",
             {{"count", static_cast<int64_t>(count)}});
    // Nothing has been promised to anybody yet.
    if (daemon_ == nullptr) std::_Exit(static_cast<int>(ExitCode::kOk));
    requested_ = true;
    if (count == 2) daemon_->Abort();
    // Whoever asks a third time no longer trusts the first two.
    if (count > 2) std::_Exit(static_cast<int>(ExitCode::kOther));
  }
  // Nothing can be served any more: a new process may find a device that works.
  void OnDeviceLost() {
    absl::MutexLock lock(&mutex_);
    requested_ = device_lost_ = true;
  }
  void Serving(Daemon* daemon) {
    absl::MutexLock lock(&mutex_);
    daemon_ = daemon;
  }
  // Until the process is to end. False when that is because the device is lost.
  bool AwaitRequest() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&requested_));
    return !device_lost_;
  }

 private:
  absl::Mutex mutex_;
  Daemon* daemon_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool requested_ ABSL_GUARDED_BY(mutex_) = false;
  bool device_lost_ ABSL_GUARDED_BY(mutex_) = false;
};

int Fail(ExitCode code, const absl::Status& status, std::ostream& error) {
  error << "sentencekv-server: " << status.message() << "\n";
  return static_cast<int>(code);
}

int Inspect(const std::string& path, std::ostream& out, std::ostream& error) {
  const absl::StatusOr<std::string> report = InspectModel(path);
  if (!report.ok()) return Fail(ExitCode::kModel, report.status(), error);
  out << *report;
  return static_cast<int>(ExitCode::kOk);
}

int Serve(const ServerConfig& config, const BackendMaker& make_cuda,
          std::ostream& out, std::ostream& error) {
  SignalPolicy policy;
  ShutdownSignals signals([&](int, int count) { policy.OnSignal(count); });
  Daemon daemon;
  daemon.SetOnDeviceLost([&policy] { policy.OnDeviceLost(); });
  const StartError start = daemon.Start(config, make_cuda);
  if (!start.status.ok()) return Fail(start.exit_code, start.status, error);
  if (!config.port_file.empty()) {
    const absl::Status written = WritePortFile(
        config.port_file, daemon.grpc_port(), daemon.metrics_port());
    if (!written.ok()) return Fail(ExitCode::kOther, written, error);
  }
  policy.Serving(&daemon);
  out << daemon.ReadyLine() << std::endl;
  if (!policy.AwaitRequest()) {
    daemon.Drain(absl::ZeroDuration());
    return static_cast<int>(ExitCode::kBackend);
  }
  const bool clean = daemon.Drain(config.drain_timeout);
  LogEvent(spdlog::level::info, "stopped", {{"clean", clean}});
  return static_cast<int>(clean ? ExitCode::kOk : ExitCode::kOther);
}

}  // namespace

Daemon::~Daemon() {
  // The front end stops the engine; without one nothing else has.
  front_end_.reset();
  if (engine_ != nullptr) engine_->Stop();
}

StartError Daemon::Start(const ServerConfig& config,
                         const BackendMaker& make_cuda) {
  config_ = config;
  if (absl::Status status = CheckNames(config); !status.ok())
    return {ExitCode::kUsage, std::move(status)};
  absl::StatusOr<std::unique_ptr<Backend>> backend =
      ChooseBackend(config, make_cuda);
  if (!backend.ok()) return {ExitCode::kBackend, backend.status()};
  backend_ = *std::move(backend);
  if (absl::Status status = LoadModelOnto(config); !status.ok())
    return {ExitCode::kModel, std::move(status)};
  if (absl::Status status = StartEngine(config); !status.ok()) {
    const ExitCode code =
        absl::IsInvalidArgument(status) ? ExitCode::kUsage : ExitCode::kOther;
    return {code, std::move(status)};
  }
  if (!config.listen.is_loopback()) {
    LogEvent(spdlog::level::warn,
             "listening beyond this machine without TLS or keys: anyone who "
             "reaches the port can use it",
             {{"listen", config.listen.ToString()}});
  }
  ServedModel model = {.name = config_.model_name,
                       .backend = backend_->description(),
                       .default_kv_policy = config.kv_policy,
                       .sentence_token_budget = config.sentence_token_budget,
                       .sentence_dense_tokens = config.sentence_dense_tokens,
                       .sentence_index_kind = config.sentence_index_kind,
                       .chat_style = chat_style_,
                       .engine = engine_.get(),
                       .tokenizer = loaded_.tokenizer.get()};
  const FrontEndOptions options = {
      .grpc = {.listen = config.listen,
               .limits = config.grpc,
               .reflection = config.reflection},
      .metrics_listen = config.metrics_listen,
      .slow_reader_timeout = config.slow_reader_timeout};
  absl::StatusOr<std::unique_ptr<FrontEnd>> front_end =
      FrontEnd::Start(options, std::move(model), metrics_);
  if (!front_end.ok()) return {ExitCode::kListen, front_end.status()};
  front_end_ = *std::move(front_end);
  return {ExitCode::kOk, absl::OkStatus()};
}

absl::Status Daemon::LoadModelOnto(const ServerConfig& config) {
  const ModelLoadOptions options = {
      .max_tokens_per_step = config.max_step_tokens,
      .max_logits_per_step =
          std::max(kMinLogitsPerStep,
                   std::min(config.max_running, config.max_step_tokens)),
      .on_progress = ProgressLogger()};
  const bool is_random = !config.random_weights.empty();
  SKV_ASSIGN_OR_RETURN(
      loaded_, is_random
                   ? LoadRandomModel(config.random_weights, *backend_, options)
                   : LoadModel(config.model_path, *backend_, options));
  SKV_ASSIGN_OR_RETURN(chat_style_,
                       ChooseChatStyle(config, loaded_.chat_template));
  if (config_.model_name.empty())
    config_.model_name =
        is_random ? "random-weights" : DefaultModelName(config.model_path);
  const ModelInfo& info = loaded_.model->info();
  LogEvent(spdlog::level::info, "model loaded",
           {{"model", config_.model_name},
            {"quantization", info.quantization},
            {"parameters", info.num_parameters},
            {"weight_bytes", info.weight_bytes},
            {"context_length", info.context_length},
            {"chat_format", Name(chat_style_.format)},
            {"backend", backend_->description()}});
  return absl::OkStatus();
}

absl::Status Daemon::StartEngine(const ServerConfig& config) {
  const ModelInfo& info = loaded_.model->info();
  SKV_ASSIGN_OR_RETURN(const KvLayout layout, ChooseKvLayout(config, info));
  SKV_ASSIGN_OR_RETURN(pool_, PagePool::Create(*backend_, layout));
  SKV_ASSIGN_OR_RETURN(memory_, CreateKvMemory(config, info, *pool_));
  metrics_ = std::make_shared<EngineMetrics>(config_.model_name, info,
                                             backend_->description());
  const LlmEngineOptions options = {
      .max_step_tokens = config.max_step_tokens,
      .max_prefill_tokens_beside_decode =
          config.max_prefill_tokens_beside_decode,
      .max_request_tokens = config.context_length,
      .max_running = config.max_running,
      .max_waiting = config.max_waiting,
      .outbox_timeout = config.slow_reader_timeout,
      .default_kv_policy = config.kv_policy,
      .prefix_cache = config.prefix_cache,
      .on_device_lost = [this](const absl::Status& status) {
        LogEvent(spdlog::level::critical, "the device is lost",
                 {{"details", std::string(status.message())}});
        if (on_device_lost_) on_device_lost_();
      }};
  SKV_ASSIGN_OR_RETURN(
      engine_, MakeLlmEngine(options, *loaded_.model, *loaded_.tokenizer,
                             *memory_, clock_, metrics_.get()));
  LogEvent(spdlog::level::info, "engine started",
           {{"kv_pages", layout.num_pages},
            {"kv_bytes", layout.total_bytes()},
            {"max_request_tokens", engine_->max_request_tokens()}});
  const MemoryBudget budget = backend_->memory_budget();
  if (budget.total_bytes > 0) {
    LogEvent(spdlog::level::info, "device memory",
             {{"budget", MemoryBudgetText(budget)}});
  }
  return absl::OkStatus();
}

std::string Daemon::ReadyLine() const {
  const std::string metrics =
      config_.metrics_listen.has_value()
          ? config_.metrics_listen->ToString(metrics_port())
          : "off";
  return fmt::format(
      "listening on {}, metrics on {}, model {}, {} pages of {} tokens",
      config_.listen.ToString(grpc_port()), metrics, config_.model_name,
      engine_->stats().pages_total, kPageTokens);
}

std::string DefaultModelName(const std::string& path) {
  fs::path file = fs::path(path).lexically_normal();
  if (!file.has_filename()) file = file.parent_path();  // "folder/"
  return file.extension() == ".gguf" ? file.stem().string()
                                     : file.filename().string();
}

int RunDaemon(int argc, const char* const* argv, std::ostream& out,
              std::ostream& error, const BackendMaker& make_cuda) {
  // A client that closes its end of a pipe or socket must not end the server.
  std::signal(SIGPIPE, SIG_IGN);
  const ParsedCommandLine parsed = ParseCommandLine(argc, argv, out, error);
  if (!parsed.config.has_value()) return static_cast<int>(parsed.exit_code);
  const ServerConfig& config = *parsed.config;
  InitLogging(config.log_level, config.log_format);
  if (config.inspect) return Inspect(config.model_path, out, error);
  return Serve(config, make_cuda, out, error);
}

}  // namespace sentencekv
