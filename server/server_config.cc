#include "server/server_config.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <limits>
#include <ostream>

#include "absl/status/statusor.h"
#include "cache/sentence_settings.h"
#include "kernels/dtype.h"
#include "kernels/version.h"
#include "server/flag_checks.h"
#include "server/flag_values.h"

namespace sentencekv {
namespace {

constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();

constexpr char kDescription[] =
    "Serves a Llama-family model over gRPC (sentencekv.v1), with its KV cache "
    "in host memory.";

constexpr char kFooter[] =
    "Sizes: 4096, 512MiB, 2G. Durations: 30 (seconds), 250ms, 2m30s.\n"
    "Each flag can also be set by an environment variable (SENTENCEKV_ and its "
    "name in\ncapitals, e.g. SENTENCEKV_MAX_RUNNING=8) and in the file given "
    "by --config (TOML,\ne.g. max_running = 8). The command line wins over the "
    "file, the file over the\nenvironment.\n"
    "Exit codes: 0 stopped cleanly, 1 other errors, 2 wrong flags or "
    "configuration, 3 the\nmodel cannot be loaded, 4 an address cannot be "
    "listened on, 5 the backend\ncannot work on this machine, or its device "
    "was lost.";

// Flags whose values are parsed further, as written.
struct RawValues {
  std::string listen = "127.0.0.1:50051";
  std::string metrics_listen = "127.0.0.1:9400";
  std::string sentence_index_kind = "mean";
  std::string kv_host_memory = "0";
  std::string kv_dtype = "f16";
  std::string backend = "auto";
  std::string kv_device_memory = "0";
  std::string cpu_discrete_memory = "0";
  std::string slow_reader_timeout = "30s";
  std::string drain_timeout = "30s";
  std::string log_level = "info";
  std::string log_format = "text";
  std::string grpc_message_limit = "16MiB";
  std::string grpc_metadata_limit = "16KiB";
  std::string grpc_memory_limit = "1GiB";
  std::string grpc_keepalive_time = "60s";
  std::string grpc_keepalive_timeout = "20s";
  std::string grpc_max_connection_age = "0";
  std::string grpc_max_connection_age_grace = "60s";
};

absl::StatusOr<DType> ParseKvDtype(const std::string& name) {
  if (name == "f16") return DType::kF16;
  if (name == "bf16") return DType::kBF16;
  if (name == "f32") return DType::kF32;
  return absl::InvalidArgumentError(
      fmt::format("KV element type is f16, bf16 or f32, not \"{}\"", name));
}

void AddModelFlags(CLI::App& app, ServerConfig& config) {
  const char* group = "Model";
  CLI::Option* model =
      app.add_option("--model", config.model_path,
                     "GGUF file or Hugging Face folder to serve")
          ->group(group);
  app.add_option("--random_weights", config.random_weights,
                 "For measuring, instead of --model: the network of this "
                 "Hugging Face config.json with random weights")
      ->excludes(model)
      ->group(group);
  app.add_option("--model_name", config.model_name,
                 "Name that requests refer to (default: the file's name)")
      ->check(CheckedBy(
          [](const std::string& name) {
            return name.size() <= 256
                       ? absl::StatusOr<bool>(true)
                       : absl::InvalidArgumentError("longer than 256 bytes");
          },
          "TEXT"))
      ->group(group);
  app.add_option("--chat_format", config.chat_format,
                 "plain, chatml, llama2, llama3, zephyr or mistral (default: "
                 "recognised from the checkpoint's template)")
      ->check(CLI::IsMember(
          {"plain", "chatml", "llama2", "llama3", "zephyr", "mistral"}))
      ->group(group);
  app.add_option("--context_length", config.context_length,
                 "Longest prompt plus answer, in tokens, if shorter than the "
                 "model's context; 0: the model's")
      ->check(CLI::Range(int64_t{0}, kMaxInt32))
      ->capture_default_str()
      ->group(group);
  app.add_flag("--inspect", config.inspect,
               "Print what the model file contains, and leave")
      ->group(group);
}

void AddNetworkFlags(CLI::App& app, ServerConfig& config, RawValues& raw) {
  const char* group = "Network";
  app.add_option("--listen", raw.listen,
                 "Address of the gRPC server: HOST:PORT, [IPV6]:PORT or "
                 "unix:PATH; port 0 takes a free one")
      ->check(CheckedBy(ParseListenAddress, "ADDRESS"))
      ->capture_default_str()
      ->group(group);
  app.add_option("--metrics_listen", raw.metrics_listen,
                 "Address of the Prometheus endpoint (HTTP, /metrics); empty: "
                 "none")
      ->check(MetricsAddressCheck())
      ->capture_default_str()
      ->group(group);
  app.add_option("--port_file", config.port_file,
                 "File that receives the actual ports once the server is "
                 "ready, as lines grpc_port=N and metrics_port=N")
      ->group(group);
  app.add_flag("--reflection,!--no_reflection", config.reflection,
               "Offer gRPC server reflection (default: on)")
      ->group(group);
}

void AddGrpcFlags(CLI::App& app, ServerConfig& config, RawValues& raw) {
  const char* group = "gRPC limits";
  const auto add = [&](const char* flag, std::string& value,
                       const char* description, const CLI::Validator& check) {
    app.add_option(flag, value, description)
        ->check(check)
        ->capture_default_str()
        ->group(group);
  };
  add("--grpc_message_limit", raw.grpc_message_limit,
      "Largest message received", SizeWithin(1024, kMaxInt32));
  add("--grpc_metadata_limit", raw.grpc_metadata_limit,
      "Largest metadata of a call", SizeWithin(1024, 1 << 20));
  add("--grpc_memory_limit", raw.grpc_memory_limit,
      "Memory that gRPC's buffers may take, all connections together",
      SizeWithin(1 << 24, int64_t{1} << 40));
  app.add_option("--grpc_max_streams", config.grpc.max_streams,
                 "Calls at once on one connection")
      ->check(CLI::Range(int64_t{1}, int64_t{1000000}))
      ->capture_default_str()
      ->group(group);
  add("--grpc_keepalive_time", raw.grpc_keepalive_time,
      "Idle time after which a connection is pinged", GrpcDurationCheck());
  add("--grpc_keepalive_timeout", raw.grpc_keepalive_timeout,
      "Time to wait for the answer before the connection counts as dead",
      GrpcDurationCheck());
  add("--grpc_max_connection_age", raw.grpc_max_connection_age,
      "Age at which a connection is asked to end (new calls then open another, "
      "which spreads clients over servers); 0: never",
      GrpcDurationCheck());
  add("--grpc_max_connection_age_grace", raw.grpc_max_connection_age_grace,
      "Time that calls of such a connection have to finish",
      GrpcDurationCheck());
}

void AddCacheFlags(CLI::App& app, ServerConfig& config, RawValues& raw) {
  const char* group = "KV cache";
  app.add_option("--kv_policy", config.kv_policy,
                 "Policy of requests that name none")
      ->capture_default_str()
      ->group(group);
  app.add_option("--sentence_token_budget", config.sentence_token_budget,
                 "Policy sentence: tokens that a step chooses, of requests "
                 "that say nothing")
      ->check(CLI::Range(int64_t{1}, kMostSentenceTokens))
      ->capture_default_str()
      ->group(group);
  app.add_option("--sentence_dense_tokens", config.sentence_dense_tokens,
                 "Policy sentence: contexts up to here are read as a whole")
      ->check(CLI::Range(int64_t{0}, kMostSentenceTokens))
      ->capture_default_str()
      ->group(group);
  app.add_option("--sentence_index_kind", raw.sentence_index_kind,
                 "Policy sentence: entries of the index: mean, minmax or sign")
      ->check(CheckedBy(ParseSentenceIndexKind, "KIND"))
      ->capture_default_str()
      ->group(group);
  app.add_option("--kv_host_memory", raw.kv_host_memory,
                 "Host memory for K and V; 0: a quarter of the machine's, but "
                 "no more than --max_running requests of full context need")
      ->check(SizeWithin(0, int64_t{1} << 50))
      ->capture_default_str()
      ->group(group);
  app.add_option("--kv_dtype", raw.kv_dtype,
                 "Element type of K and V: f16, bf16 or f32")
      ->check(CheckedBy(ParseKvDtype, "TYPE"))
      ->capture_default_str()
      ->group(group);
  app.add_option("--prefix_cache", config.prefix_cache,
                 "Reuse the K and V of prompts and answers that begin alike: "
                 "true or false")
      ->capture_default_str()
      ->group(group);
}

void AddComputeFlags(CLI::App& app, ServerConfig& config, RawValues& raw) {
  const char* group = "Compute";
  app.add_option("--backend", raw.backend,
                 "auto, cuda or cpu; auto: CUDA where there is a GPU, a driver "
                 "and cuBLAS")
      ->check(CheckedBy(ParseBackendKind, "BACKEND"))
      ->capture_default_str()
      ->group(group);
  app.add_option("--kv_device_memory", raw.kv_device_memory,
                 "Device memory for K and V, of a backend that has memory of "
                 "its own; 0: half of what the model leaves, but no more than "
                 "--kv_host_memory")
      ->check(SizeWithin(0, int64_t{1} << 50))
      ->capture_default_str()
      ->group(group);
  app.add_option("--cuda_graphs", config.cuda_graphs,
                 "CUDA: launch a decode step as one graph where it can be: "
                 "true or false")
      ->capture_default_str()
      ->group(group);
  app.add_option("--threads", config.threads,
                 "Threads of the CPU backend; 0: one per core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str()
      ->group(group);
  app.add_option("--cpu_level", config.cpu_level,
                 "Instruction set: auto, portable, avx2 or avx512")
      ->check(CLI::IsMember({"auto", "portable", "avx2", "avx512"}))
      ->capture_default_str()
      ->group(group);
  app.add_option("--cpu_discrete_memory", raw.cpu_discrete_memory,
                 "Play a device with so much memory of its own for K and V: "
                 "for tests; 0: K and V are read where they are")
      ->check(SizeWithin(0, int64_t{1} << 50))
      ->capture_default_str()
      ->group(group);
}

void AddSchedulingFlags(CLI::App& app, ServerConfig& config, RawValues& raw) {
  const char* group = "Scheduling";
  const auto add = [&](const char* flag, int64_t& value,
                       const char* description, int64_t minimum,
                       int64_t maximum) {
    app.add_option(flag, value, description)
        ->check(CLI::Range(minimum, maximum))
        ->capture_default_str()
        ->group(group);
  };
  add("--max_step_tokens", config.max_step_tokens,
      "Tokens of one engine step, prefill and decode together", 2, 65536);
  add("--max_prefill_tokens_beside_decode",
      config.max_prefill_tokens_beside_decode,
      "Prompt tokens of one step while answers are being generated: smaller "
      "keeps them steadier, larger starts new ones sooner",
      1, 65536);
  add("--max_running", config.max_running, "Requests computed at once", 1,
      4096);
  add("--max_waiting", config.max_waiting,
      "Requests in the queue; more are refused", 1, 1000000);
  app.add_option("--slow_reader_timeout", raw.slow_reader_timeout,
                 "Time a client may leave its answer unread before the "
                 "request is ended")
      ->check(PositiveDurationCheck())
      ->capture_default_str()
      ->group(group);
  app.add_option("--drain_timeout", raw.drain_timeout,
                 "Time that running requests have to finish after SIGTERM")
      ->check(DurationCheck())
      ->capture_default_str()
      ->group(group);
}

void AddLogFlags(CLI::App& app, RawValues& raw) {
  const char* group = "Log";
  app.add_option("--log_level", raw.log_level,
                 "trace, debug, info, warning, error or off")
      ->check(CheckedBy(ParseLogLevel, "LEVEL"))
      ->capture_default_str()
      ->group(group);
  app.add_option("--log_format", raw.log_format, "text or json")
      ->check(CheckedBy(ParseLogFormat, "FORMAT"))
      ->capture_default_str()
      ->group(group);
}

// SENTENCEKV_MAX_RUNNING for --max_running, for every flag but help, version
// and config, which only make sense on the command line.
void NameEnvironmentVariables(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    const std::string name = option->get_single_name();
    if (name == "help" || name == "version" || name == "config") continue;
    std::string variable = "SENTENCEKV_";
    for (char c : name)
      variable +=
          static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    option->envname(variable);
  }
}

// Parses the raw values a second time; the checks have accepted each of them.
void Resolve(const RawValues& raw, ServerConfig& config) {
  config.listen = *ParseListenAddress(raw.listen);
  if (!raw.metrics_listen.empty())
    config.metrics_listen = *ParseListenAddress(raw.metrics_listen);
  config.sentence_index_kind = *ParseSentenceIndexKind(raw.sentence_index_kind);
  config.kv_host_memory_bytes = *ParseByteSize(raw.kv_host_memory);
  config.kv_dtype = *ParseKvDtype(raw.kv_dtype);
  config.backend = *ParseBackendKind(raw.backend);
  config.kv_device_memory_bytes = *ParseByteSize(raw.kv_device_memory);
  config.cpu_discrete_memory_bytes = *ParseByteSize(raw.cpu_discrete_memory);
  config.slow_reader_timeout = *ParseDuration(raw.slow_reader_timeout);
  config.drain_timeout = *ParseDuration(raw.drain_timeout);
  config.log_level = *ParseLogLevel(raw.log_level);
  config.log_format = *ParseLogFormat(raw.log_format);
  config.grpc.message_bytes = *ParseByteSize(raw.grpc_message_limit);
  config.grpc.metadata_bytes = *ParseByteSize(raw.grpc_metadata_limit);
  config.grpc.memory_bytes = *ParseByteSize(raw.grpc_memory_limit);
  config.grpc.keepalive_time = *ParseDuration(raw.grpc_keepalive_time);
  config.grpc.keepalive_timeout = *ParseDuration(raw.grpc_keepalive_timeout);
  config.grpc.max_connection_age = *ParseDuration(raw.grpc_max_connection_age);
  config.grpc.max_connection_age_grace =
      *ParseDuration(raw.grpc_max_connection_age_grace);
}

}  // namespace

ParsedCommandLine ParseCommandLine(int argc, const char* const* argv,
                                   std::ostream& out, std::ostream& error) {
  ServerConfig config;
  RawValues raw;
  CLI::App app(kDescription, "sentencekv-server");
  app.footer(kFooter);
  app.set_version_flag("--version",
                       fmt::format("sentencekv-server {}", kVersion));
  app.set_config("--config", "", "TOML file with values for these flags");
  app.allow_config_extras(CLI::config_extras_mode::error);
  AddModelFlags(app, config);
  AddNetworkFlags(app, config, raw);
  AddCacheFlags(app, config, raw);
  AddComputeFlags(app, config, raw);
  AddSchedulingFlags(app, config, raw);
  AddGrpcFlags(app, config, raw);
  AddLogFlags(app, raw);
  NameEnvironmentVariables(app);
  try {
    app.parse(argc, argv);
    if (config.model_path.empty() && config.random_weights.empty()) {
      throw CLI::RequiredError("--model");
    }
  } catch (const CLI::ParseError& parse_error) {
    const int code = app.exit(parse_error, out, error);
    return {std::nullopt, code == 0 ? ExitCode::kOk : ExitCode::kUsage};
  } catch (const std::exception& unexpected) {
    error << "cannot read the configuration: " << unexpected.what() << "\n";
    return {std::nullopt, ExitCode::kUsage};
  }
  Resolve(raw, config);
  if (app.count("--max_prefill_tokens_beside_decode") == 0) {
    config.max_prefill_tokens_beside_decode = std::min(
        config.max_prefill_tokens_beside_decode, config.max_step_tokens);
  }
  if (config.max_prefill_tokens_beside_decode > config.max_step_tokens) {
    error << fmt::format(
        "--max_prefill_tokens_beside_decode ({}) is more than "
        "--max_step_tokens ({})\n",
        config.max_prefill_tokens_beside_decode, config.max_step_tokens);
    return {std::nullopt, ExitCode::kUsage};
  }
  return {std::move(config), ExitCode::kOk};
}

}  // namespace sentencekv
