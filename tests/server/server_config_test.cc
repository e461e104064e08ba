#include "server/server_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <vector>

#include "kernels/version.h"
#include "tests/support/test_files.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;

struct Parsed {
  ParsedCommandLine result;
  std::string out;
  std::string error;
};

Parsed Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "sentencekv-server");
  std::ostringstream out;
  std::ostringstream error;
  Parsed parsed;
  parsed.result = ParseCommandLine(static_cast<int>(arguments.size()),
                                   arguments.data(), out, error);
  parsed.out = out.str();
  parsed.error = error.str();
  return parsed;
}

// An environment variable for as long as it lives.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const char* value) : name_(name) {
    setenv(name, value, 1);
  }
  ~ScopedVariable() { unsetenv(name_); }

 private:
  const char* name_;
};

TEST(ParseCommandLine, DefaultsAreAsDocumented) {
  const Parsed parsed = Parse({"--model", "m.gguf"});
  ASSERT_TRUE(parsed.result.config.has_value()) << parsed.error;
  const ServerConfig& config = *parsed.result.config;
  EXPECT_EQ(config.model_path, "m.gguf");
  EXPECT_EQ(config.listen.ToString(), "127.0.0.1:50051");
  ASSERT_TRUE(config.metrics_listen.has_value());
  EXPECT_EQ(config.metrics_listen->ToString(), "127.0.0.1:9400");
  EXPECT_EQ(config.kv_policy, "full");
  EXPECT_EQ(config.sentence_token_budget, 1024);
  EXPECT_EQ(config.sentence_dense_tokens, 4096);
  EXPECT_EQ(config.sentence_index_kind, SentenceIndexKind::kMean);
  EXPECT_EQ(config.kv_host_memory_bytes, 0);
  EXPECT_EQ(config.kv_dtype, DType::kF16);
  EXPECT_TRUE(config.prefix_cache);
  EXPECT_TRUE(config.cuda_graphs);
  EXPECT_EQ(config.threads, 0);
  EXPECT_EQ(config.backend, BackendKind::kAuto);
  EXPECT_EQ(config.kv_device_memory_bytes, 0);
  EXPECT_EQ(config.cpu_discrete_memory_bytes, 0);
  EXPECT_EQ(config.max_running, 64);
  EXPECT_EQ(config.max_waiting, 256);
  EXPECT_EQ(config.drain_timeout, absl::Seconds(30));
  EXPECT_EQ(config.grpc.message_bytes, 16 << 20);
  EXPECT_EQ(config.grpc.metadata_bytes, 16 << 10);
  EXPECT_EQ(config.grpc.keepalive_time, absl::Seconds(60));
  EXPECT_EQ(config.grpc.keepalive_timeout, absl::Seconds(20));
  EXPECT_EQ(config.grpc.max_connection_age, absl::ZeroDuration());
  EXPECT_TRUE(config.reflection);
  EXPECT_EQ(config.log_level, spdlog::level::info);
  EXPECT_EQ(config.log_format, LogFormat::kText);
}

TEST(ParseCommandLine, TakesEveryFlag) {
  const Parsed parsed = Parse({"--model",
                               "m",
                               "--model_name",
                               "n",
                               "--chat_format",
                               "llama3",
                               "--context_length",
                               "4096",
                               "--listen",
                               "[::1]:0",
                               "--metrics_listen",
                               "",
                               "--port_file",
                               "p",
                               "--no_reflection",
                               "--kv_policy",
                               "other",
                               "--sentence_token_budget",
                               "77",
                               "--sentence_dense_tokens",
                               "0",
                               "--sentence_index_kind",
                               "sign",
                               "--kv_host_memory",
                               "2GiB",
                               "--kv_dtype",
                               "bf16",
                               "--prefix_cache=false",
                               "--cuda_graphs=false",
                               "--threads",
                               "3",
                               "--cpu_level",
                               "avx2",
                               "--backend",
                               "cuda",
                               "--kv_device_memory",
                               "3GiB",
                               "--cpu_discrete_memory",
                               "96KiB",
                               "--max_step_tokens",
                               "512",
                               "--max_prefill_tokens_beside_decode",
                               "100",
                               "--max_running",
                               "5",
                               "--max_waiting",
                               "6",
                               "--slow_reader_timeout",
                               "7s",
                               "--drain_timeout",
                               "8",
                               "--grpc_message_limit",
                               "1MiB",
                               "--grpc_metadata_limit",
                               "8K",
                               "--grpc_memory_limit",
                               "64M",
                               "--grpc_max_streams",
                               "9",
                               "--grpc_keepalive_time",
                               "10s",
                               "--grpc_keepalive_timeout",
                               "11s",
                               "--grpc_max_connection_age",
                               "1h",
                               "--grpc_max_connection_age_grace",
                               "12s",
                               "--log_level",
                               "warning",
                               "--log_format",
                               "json",
                               "--inspect"});
  ASSERT_TRUE(parsed.result.config.has_value()) << parsed.error;
  const ServerConfig& config = *parsed.result.config;
  EXPECT_EQ(config.model_name, "n");
  EXPECT_EQ(config.chat_format, "llama3");
  EXPECT_EQ(config.context_length, 4096);
  EXPECT_EQ(config.listen.ToString(), "[::1]:0");
  EXPECT_FALSE(config.metrics_listen.has_value());
  EXPECT_EQ(config.port_file, "p");
  EXPECT_FALSE(config.reflection);
  EXPECT_EQ(config.kv_policy, "other");
  EXPECT_EQ(config.sentence_token_budget, 77);
  EXPECT_EQ(config.sentence_dense_tokens, 0);
  EXPECT_EQ(config.sentence_index_kind, SentenceIndexKind::kSign);
  EXPECT_EQ(config.kv_host_memory_bytes, 2ll << 30);
  EXPECT_EQ(config.kv_dtype, DType::kBF16);
  EXPECT_FALSE(config.prefix_cache);
  EXPECT_FALSE(config.cuda_graphs);
  EXPECT_EQ(config.threads, 3);
  EXPECT_EQ(config.cpu_level, "avx2");
  EXPECT_EQ(config.backend, BackendKind::kCuda);
  EXPECT_EQ(config.kv_device_memory_bytes, int64_t{3} << 30);
  EXPECT_EQ(config.cpu_discrete_memory_bytes, 96 << 10);
  EXPECT_EQ(config.max_step_tokens, 512);
  EXPECT_EQ(config.max_prefill_tokens_beside_decode, 100);
  EXPECT_EQ(config.max_running, 5);
  EXPECT_EQ(config.max_waiting, 6);
  EXPECT_EQ(config.slow_reader_timeout, absl::Seconds(7));
  EXPECT_EQ(config.drain_timeout, absl::Seconds(8));
  EXPECT_EQ(config.grpc.message_bytes, 1 << 20);
  EXPECT_EQ(config.grpc.metadata_bytes, 8 << 10);
  EXPECT_EQ(config.grpc.memory_bytes, 64 << 20);
  EXPECT_EQ(config.grpc.max_streams, 9);
  EXPECT_EQ(config.grpc.keepalive_time, absl::Seconds(10));
  EXPECT_EQ(config.grpc.keepalive_timeout, absl::Seconds(11));
  EXPECT_EQ(config.grpc.max_connection_age, absl::Hours(1));
  EXPECT_EQ(config.grpc.max_connection_age_grace, absl::Seconds(12));
  EXPECT_EQ(config.log_level, spdlog::level::warn);
  EXPECT_EQ(config.log_format, LogFormat::kJson);
  EXPECT_TRUE(config.inspect);
}

struct WrongCase {
  const char* name;
  const char* flag;
  const char* value;
};

void PrintTo(const WrongCase& c, std::ostream* out) { *out << c.name; }

class WrongFlagTest : public ::testing::TestWithParam<WrongCase> {};

TEST_P(WrongFlagTest, IsAUsageErrorWithFlagAndValue) {
  const Parsed parsed =
      Parse({"--model", "m", GetParam().flag, GetParam().value});
  EXPECT_FALSE(parsed.result.config.has_value());
  EXPECT_EQ(parsed.result.exit_code, ExitCode::kUsage);
  EXPECT_THAT(parsed.error, HasSubstr(GetParam().flag));
  EXPECT_THAT(parsed.error, HasSubstr(GetParam().value));
}

INSTANTIATE_TEST_SUITE_P(
    All, WrongFlagTest,
    ::testing::Values(
        WrongCase{"Listen", "--listen", "localhost"},
        WrongCase{"Metrics", "--metrics_listen", "unix:/x"},
        WrongCase{"ContextNegative", "--context_length", "-1"},
        WrongCase{"Threads", "--threads", "1025"},
        WrongCase{"ThreadsText", "--threads", "many"},
        WrongCase{"Level", "--cpu_level", "sse9"},
        WrongCase{"Backend", "--backend", "gpu"},
        WrongCase{"DeviceMemory", "--kv_device_memory", "much"},
        WrongCase{"DeviceText", "--cpu_discrete_memory", "plenty"},
        WrongCase{"DeviceNegative", "--cpu_discrete_memory", "-1"},
        WrongCase{"Dtype", "--kv_dtype", "f8"},
        WrongCase{"PrefixCache", "--prefix_cache", "perhaps"},
        WrongCase{"Memory", "--kv_host_memory", "lots"},
        WrongCase{"RunningZero", "--max_running", "0"},
        WrongCase{"RunningMany", "--max_running", "4097"},
        WrongCase{"Waiting", "--max_waiting", "0"},
        WrongCase{"Step", "--max_step_tokens", "65537"},
        WrongCase{"Prefill", "--max_prefill_tokens_beside_decode", "257"},
        WrongCase{"StepOne", "--max_step_tokens", "1"},
        WrongCase{"SlowReaderZero", "--slow_reader_timeout", "0s"},
        WrongCase{"Drain", "--drain_timeout", "-1s"},
        WrongCase{"Message", "--grpc_message_limit", "3G"},
        WrongCase{"Metadata", "--grpc_metadata_limit", "1"},
        WrongCase{"Streams", "--grpc_max_streams", "0"},
        WrongCase{"Keepalive", "--grpc_keepalive_time", "500h"},
        WrongCase{"LogLevel", "--log_level", "loud"},
        WrongCase{"LogFormat", "--log_format", "xml"},
        WrongCase{"Chat", "--chat_format", "telegram"},
        WrongCase{"Huge", "--max_running", "99999999999999999999"}),
    [](const auto& info) { return info.param.name; });

TEST(ParseCommandLine, ModelIsRequired) {
  const Parsed parsed = Parse({});
  EXPECT_EQ(parsed.result.exit_code, ExitCode::kUsage);
  EXPECT_THAT(parsed.error, HasSubstr("--model is required"));
}

TEST(ParseCommandLine, RandomWeightsStandForAModel) {
  const Parsed parsed = Parse({"--random_weights", "config.json"});
  ASSERT_TRUE(parsed.result.config.has_value()) << parsed.error;
  EXPECT_EQ(parsed.result.config->random_weights, "config.json");
  const Parsed both = Parse({"--random_weights", "c", "--model", "m"});
  EXPECT_EQ(both.result.exit_code, ExitCode::kUsage);
  EXPECT_THAT(both.error, HasSubstr("excludes"));
}

TEST(ParseCommandLine, UnknownFlagsAreErrors) {
  const Parsed parsed = Parse({"--model", "m", "--modle_name", "n"});
  EXPECT_EQ(parsed.result.exit_code, ExitCode::kUsage);
  EXPECT_THAT(parsed.error, HasSubstr("--modle_name"));
}

TEST(ParseCommandLine, HelpListsFlagsByGroup) {
  const Parsed parsed = Parse({"--help"});
  EXPECT_EQ(parsed.result.exit_code, ExitCode::kOk);
  for (const char* text :
       {"Model:", "Network:", "KV cache:", "Compute:", "Scheduling:",
        "gRPC limits:", "Log:", "--max_running", "SENTENCEKV_MAX_RUNNING",
        "Exit codes"})
    EXPECT_THAT(parsed.out, HasSubstr(text));
}

TEST(ParseCommandLine, PrintsTheVersion) {
  const Parsed parsed = Parse({"--version"});
  EXPECT_EQ(parsed.result.exit_code, ExitCode::kOk);
  EXPECT_THAT(parsed.out, HasSubstr(kVersion));
}

TEST(ParseCommandLine, PrefersTheCommandLineThenTheFileThenTheEnvironment) {
  const std::string path = MakeTempDir() + "/server.toml";
  std::ofstream(path) << "max_running = 11\nmax_waiting = 12\n"
                         "listen = \"127.0.0.1:1\"\nreflection = false\n";
  const ScopedVariable running("SENTENCEKV_MAX_RUNNING", "21");
  const ScopedVariable threads("SENTENCEKV_THREADS", "22");
  const ScopedVariable model("SENTENCEKV_MODEL", "from-environment");
  const Parsed parsed =
      Parse({"--config", path.c_str(), "--max_waiting", "31"});
  ASSERT_TRUE(parsed.result.config.has_value()) << parsed.error;
  const ServerConfig& config = *parsed.result.config;
  EXPECT_EQ(config.max_waiting, 31);
  EXPECT_EQ(config.max_running, 11);
  EXPECT_EQ(config.threads, 22);
  EXPECT_EQ(config.model_path, "from-environment");
  EXPECT_EQ(config.listen.port, 1);
  EXPECT_FALSE(config.reflection);
}

TEST(ParseCommandLine, ChecksTheFileAndTheEnvironmentToo) {
  const std::string path = MakeTempDir() + "/server.toml";
  std::ofstream(path) << "max_runing = 11\n";
  EXPECT_EQ(Parse({"--model", "m", "--config", path.c_str()}).result.exit_code,
            ExitCode::kUsage);
  EXPECT_EQ(Parse({"--model", "m", "--config", "/nowhere"}).result.exit_code,
            ExitCode::kUsage);
  const ScopedVariable running("SENTENCEKV_MAX_RUNNING", "0");
  EXPECT_EQ(Parse({"--model", "m"}).result.exit_code, ExitCode::kUsage);
}

TEST(ParseCommandLine, TheDefaultPrefillFollowsASmallerStep) {
  const Parsed parsed = Parse({"--model", "m", "--max_step_tokens", "16"});
  ASSERT_TRUE(parsed.result.config.has_value()) << parsed.error;
  EXPECT_EQ(parsed.result.config->max_prefill_tokens_beside_decode, 16);
}

}  // namespace
}  // namespace sentencekv
