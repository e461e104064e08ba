// Everything a user can set, and the one place where it is read: flags, then
// the file given by --config, then environment variables (SENTENCEKV_ and the
// flag's name in capitals), in falling order of precedence.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cache/sentence_settings.h"
#include "kernels/dtype.h"
#include "server/backend_choice.h"
#include "server/flag_values.h"
#include "server/logging.h"

namespace sentencekv {

// What the process exits with; scripts may rely on it.
enum class ExitCode : int {
  kOk = 0,
  kOther = 1,
  kUsage = 2,   // flags, environment or configuration file
  kModel = 3,   // the model cannot be loaded
  kListen = 4,  // an address is in use or cannot be listened on
  kBackend =
      5,  // --backend cannot work on this machine, or its device was lost
};

// Limits of the gRPC server; 0 means none where a comment does not say
// otherwise.
struct GrpcLimits {
  int64_t message_bytes = 16 << 20;   // of one received message
  int64_t metadata_bytes = 16 << 10;  // of one call's headers
  int64_t max_streams = 1024;         // at once, per connection
  int64_t memory_bytes = 1 << 30;     // buffers of all connections together
  absl::Duration keepalive_time = absl::Seconds(60);
  absl::Duration keepalive_timeout = absl::Seconds(20);
  absl::Duration max_connection_age;  // zero: no limit
  absl::Duration max_connection_age_grace = absl::Seconds(60);
};

struct ServerConfig {
  std::string model_path;
  std::string random_weights;  // a config.json, instead of model_path
  std::string model_name;      // "": the file's or folder's name
  std::string chat_format;     // "": recognised from the checkpoint's template
  int64_t context_length = 0;  // 0: the model's

  ListenAddress listen;
  std::optional<ListenAddress> metrics_listen;
  bool reflection = true;
  std::string port_file;
  GrpcLimits grpc;

  std::string kv_policy = "full";
  int64_t sentence_token_budget = kDefaultSentenceBudget;
  int64_t sentence_dense_tokens = kDefaultSentenceDense;
  SentenceIndexKind sentence_index_kind = SentenceIndexKind::kMean;
  int64_t kv_host_memory_bytes = 0;  // 0: see DefaultKvHostMemory
  DType kv_dtype = DType::kF16;
  bool prefix_cache = true;

  BackendKind backend = BackendKind::kAuto;
  int64_t kv_device_memory_bytes = 0;  // 0: see DefaultKvDeviceMemory
  bool cuda_graphs = true;
  int threads = 0;  // 0: one per core
  std::string cpu_level = "auto";
  int64_t cpu_discrete_memory_bytes = 0;  // 0: one memory

  int64_t max_step_tokens = 256;
  int64_t max_prefill_tokens_beside_decode = 64;
  int64_t max_running = 64;
  int64_t max_waiting = 256;
  absl::Duration slow_reader_timeout = absl::Seconds(30);
  absl::Duration drain_timeout = absl::Seconds(30);

  spdlog::level::level_enum log_level = spdlog::level::info;
  LogFormat log_format = LogFormat::kText;

  bool inspect = false;  // print what the model file contains, and leave
};

// What the command line asks for: a configuration to run with, or to leave
// with `exit_code` because help was printed or something was wrong.
struct ParsedCommandLine {
  std::optional<ServerConfig> config;
  ExitCode exit_code = ExitCode::kOk;
};

// Parses the arguments and the environment of the process. Help and version go
// to `out`; an error goes to `error` with the flag and its value.
ParsedCommandLine ParseCommandLine(int argc, const char* const* argv,
                                   std::ostream& out, std::ostream& error);

}  // namespace sentencekv
