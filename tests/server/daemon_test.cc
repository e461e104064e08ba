// Starting and failing to start. What a running process does under signals is
// tests/integration's.
#include "server/daemon.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "server/kv_sizes.h"
#include "tests/support/test_files.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct Outcome {
  int exit_code;
  std::string out;
  std::string error;
};

Outcome RunWith(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "sentencekv-server");
  std::ostringstream out;
  std::ostringstream error;
  const int code = RunDaemon(static_cast<int>(arguments.size()),
                             arguments.data(), out, error);
  return {code, out.str(), error.str()};
}

TEST(DefaultKvHostMemory, IsAQuarterOrWhatIsOfUse) {
  constexpr int64_t kGiB = 1 << 30;
  constexpr int64_t kPage = 1 << 20;
  // 64 pages of 1 MiB for each of 4 requests.
  EXPECT_EQ(DefaultKvHostMemory(64 * kGiB, kPage, 1024, 4), 256 * kPage);
  EXPECT_EQ(DefaultKvHostMemory(kGiB, kPage, 131072, 64), kGiB / 4);
  // A context that ends inside a page needs all of it.
  EXPECT_EQ(DefaultKvHostMemory(64 * kGiB, kPage, 1025, 1), 65 * kPage);
  EXPECT_EQ(DefaultKvHostMemory(0, kPage, 1024, 4), 0);
}

TEST(DefaultModelName, IsTheFilesOrTheFolders) {
  EXPECT_EQ(DefaultModelName("/models/SmolLM2.Q4_1.gguf"), "SmolLM2.Q4_1");
  EXPECT_EQ(DefaultModelName("/models/Llama-3.2-1B"), "Llama-3.2-1B");
  EXPECT_EQ(DefaultModelName("/models/Llama-3.2-1B/"), "Llama-3.2-1B");
  EXPECT_EQ(DefaultModelName("a.gguf"), "a");
}

TEST(RunDaemon, AMissingModelIsTheModelsError) {
  const Outcome run = RunWith({"--model", "/nowhere/m.gguf"});
  EXPECT_EQ(run.exit_code, static_cast<int>(ExitCode::kModel));
  EXPECT_THAT(run.error, HasSubstr("/nowhere/m.gguf"));
}

TEST(RunDaemon, ABrokenModelIsTheModelsError) {
  const std::string path = MakeTempDir() + "/broken.gguf";
  std::ofstream(path) << "GGUF and nothing else";
  const Outcome run = RunWith({"--model", path.c_str()});
  EXPECT_EQ(run.exit_code, static_cast<int>(ExitCode::kModel));
  const Outcome inspect = RunWith({"--inspect", "--model", path.c_str()});
  EXPECT_EQ(inspect.exit_code, static_cast<int>(ExitCode::kModel));
  EXPECT_FALSE(inspect.error.empty());
}

TEST(RunDaemon, NamesAreCheckedBeforeTheModelIsLoaded) {
  const Outcome run = RunWith({"--model", "/nowhere", "--kv_policy", "magic"});
  EXPECT_EQ(run.exit_code, static_cast<int>(ExitCode::kUsage));
  EXPECT_THAT(run.error, HasSubstr("--kv_policy"));
  EXPECT_THAT(run.error, HasSubstr("magic"));
}

TEST(RunDaemon, HelpIsNoError) {
  const Outcome run = RunWith({"--help"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_THAT(run.out, HasSubstr("--model"));
}

// 512 tokens are 32 pages; of 16 tokens, 2 KV heads of 16 and f16 each has 2048
// bytes a layer.
TEST(RunDaemon, TheDeviceHoldsALayerOfTheLongestRequest) {
  ServerConfig config;
  config.model_path = WriteTinyGguf(MakeTinyModel({.context_length = 512}));
  config.listen = {.host = "127.0.0.1", .port = 0};
  config.threads = 1;
  const auto start_with = [&](int64_t device_bytes) {
    config.cpu_discrete_memory_bytes = device_bytes;
    return Daemon().Start(config);
  };
  const StartError start = start_with(65535);
  EXPECT_EQ(start.exit_code, ExitCode::kUsage);
  EXPECT_THAT(std::string(start.status.message()),
              AllOf(HasSubstr("--cpu_discrete_memory"), HasSubstr("512 tokens"),
                    HasSubstr("65536"), HasSubstr("65535")));
  EXPECT_TRUE(start_with(65536).status.ok());
  // A shorter request needs less.
  config.context_length = 256;
  EXPECT_TRUE(start_with(32768).status.ok());
}

TEST(DefaultKvDeviceMemory, IsHalfOfWhatIsFreeOrThePools) {
  EXPECT_EQ(DefaultKvDeviceMemory(1000, 2000), 500);
  EXPECT_EQ(DefaultKvDeviceMemory(1000, 300), 300);
  EXPECT_EQ(DefaultKvDeviceMemory(std::nullopt, int64_t{9} << 30),
            int64_t{1} << 30);
}

absl::StatusOr<std::unique_ptr<Backend>> NoDriver(const ServerConfig&) {
  return absl::FailedPreconditionError("no driver here");
}

class BackendChoiceTest : public ::testing::Test {
 protected:
  BackendChoiceTest() {
    config_.model_path = WriteTinyGguf(MakeTinyModel({}));
    config_.listen = {.host = "127.0.0.1", .port = 0};
    config_.kv_host_memory_bytes = 1 << 20;
    config_.threads = 1;
  }
  ServerConfig config_;
};

TEST_F(BackendChoiceTest, WhatIsAskedForIsNotReplaced) {
  config_.backend = BackendKind::kCuda;
  const StartError start = Daemon().Start(config_, NoDriver);
  EXPECT_EQ(start.exit_code, ExitCode::kBackend);
  EXPECT_THAT(std::string(start.status.message()),
              AllOf(HasSubstr("--backend=cuda"), HasSubstr("no driver here")));
  const StartError without = Daemon().Start(config_);
  EXPECT_EQ(without.exit_code, ExitCode::kBackend);
  EXPECT_THAT(std::string(without.status.message()),
              HasSubstr("built without"));
}

TEST_F(BackendChoiceTest, AutoTakesTheCpuWhereCudaCannotWork) {
  EXPECT_TRUE(Daemon().Start(config_, NoDriver).status.ok());
}

TEST_F(BackendChoiceTest, AutoTakesCudaWhereItWorks) {
  int num_made = 0;
  config_.cuda_graphs = false;
  // Any backend will do: the daemon sees no difference.
  const auto make = [&](const ServerConfig& config) {
    EXPECT_FALSE(config.cuda_graphs);
    ++num_made;
    return MakeCpuBackend({.num_threads = 1});
  };
  EXPECT_TRUE(Daemon().Start(config_, make).status.ok());
  EXPECT_EQ(num_made, 1);
  config_.backend = BackendKind::kCpu;
  EXPECT_TRUE(Daemon().Start(config_, make).status.ok());
  config_.backend = BackendKind::kAuto;
  config_.cpu_discrete_memory_bytes = 1 << 20;
  EXPECT_TRUE(Daemon().Start(config_, make).status.ok());
  EXPECT_EQ(num_made, 1);
}

class DaemonTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::optional<std::string> model = SmolLmPath();
    SKV_SKIP_WITHOUT(model, "SmolLM2-135M-Instruct.Q4_1.gguf");
    config_.model_path = *model;
    config_.listen = {.host = "127.0.0.1", .port = 0};
    config_.kv_host_memory_bytes = 64 << 20;
    config_.threads = 1;
  }
  ServerConfig config_;
};

TEST_F(DaemonTest, ServesAndDrains) {
  config_.context_length = 100;
  Daemon daemon;
  const StartError start = daemon.Start(config_);
  ASSERT_TRUE(start.status.ok()) << start.status;
  EXPECT_GT(daemon.grpc_port(), 0);
  EXPECT_EQ(daemon.metrics_port(), 0);
  EXPECT_THAT(daemon.ReadyLine(), HasSubstr("metrics on off"));
  EXPECT_THAT(daemon.ReadyLine(),
              HasSubstr("model SmolLM2-135M-Instruct.Q4_1"));
  EXPECT_TRUE(daemon.Drain(absl::Seconds(1)));
}

TEST_F(DaemonTest, APortInUseIsTheListenersError) {
  Daemon first;
  ASSERT_TRUE(first.Start(config_).status.ok());
  config_.listen.port = first.grpc_port();
  Daemon second;
  const StartError start = second.Start(config_);
  EXPECT_EQ(start.exit_code, ExitCode::kListen);
  EXPECT_FALSE(start.status.ok());
}

TEST_F(DaemonTest, TooLittleMemoryIsAUsageError) {
  config_.kv_host_memory_bytes = 1000;
  Daemon daemon;
  const StartError start = daemon.Start(config_);
  EXPECT_EQ(start.exit_code, ExitCode::kUsage);
  EXPECT_THAT(std::string(start.status.message()),
              HasSubstr("--kv_host_memory"));
}

}  // namespace
}  // namespace sentencekv
