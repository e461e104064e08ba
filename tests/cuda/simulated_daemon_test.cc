// The daemon on the simulated CUDA device beside the one on the CPU: the same
// model, the same requests, the same greedy tokens.
//
// SENTENCEKV_SIM_SEEDS sets how many orders of threads and streams the
// schedules run with (default 3; tests/nightly.sh runs 200).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "server/client/answer.h"
#include "server/server_config.h"
#include "tests/integration/server_process.h"
#include "tests/integration/story_requests.h"
#include "tests/support/test_files.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int kContext = 512;
constexpr int kMaxTokens = 8;
// One layer of the context takes 32 frames, 16 tokens of 2 KV heads each; with
// so few more, pages and sentences make room for each other all the time.
constexpr int kFrames = 44;
constexpr int kDeviceBytes = kFrames * 2048;
// Products round their input to bf16, and so logits by up to 0.1: of two
// tokens that are nearer than this, in log-probability, either is right.
constexpr float kTie = 0.1f;

std::vector<std::string> Flags() {
  return {"--threads",          "1",
          "--cpu_level",        "portable",
          "--max_step_tokens",  "64",
          "--kv_dtype",         "bf16",
          "--kv_device_memory", std::to_string(kDeviceBytes)};
}

std::vector<v1::GenerateRequest> Requests() {
  std::vector<v1::GenerateRequest> requests;
  for (const int ending : {1, 2}) {
    const Story story = {.number = 1, .ending = ending, .num_sentences = 6};
    for (const char* policy : {"full", "sentence", "sentence-paper"}) {
      requests.push_back(StoryRequest(policy, story, kMaxTokens));
    }
    requests.push_back(requests[requests.size() - 2]);
    requests.back().mutable_kv()->set_strict(false);
    requests.back().mutable_kv()->set_index_kind("sign");
  }
  for (v1::GenerateRequest& request : requests) {
    request.mutable_output()->set_logprobs(2);
  }
  return requests;
}

// Adds how many tokens were compared: up to the first that differs, where the
// two likeliest must be close.
void ExpectSameTokens(const ToldTokens& actual, const ToldTokens& expected,
                      size_t* num_compared) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    if (actual[i].id != expected[i].id) {
      EXPECT_LT(expected[i].logprob - expected[i].runner_up, kTie)
          << "token " << i << ": " << actual[i].id << " for " << expected[i].id;
      return;
    }
    ++*num_compared;
  }
}

void ExpectSameAnswers(const std::vector<ToldTokens>& actual,
                       const std::vector<ToldTokens>& expected) {
  size_t num_compared = 0;
  size_t num_tokens = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    SCOPED_TRACE("request " + std::to_string(i));
    ExpectSameTokens(actual[i], expected[i], &num_compared);
    num_tokens += expected[i].size();
  }
  EXPECT_GE(num_compared, num_tokens * 9 / 10);
}

int NumSeeds() {
  const char* value = std::getenv("SENTENCEKV_SIM_SEEDS");
  return value == nullptr ? 3 : std::atoi(value);
}

// A daemon whose device orders threads, blocks and streams by `seed`.
ServerProcess StartSimulated(const std::string& model, int seed) {
  setenv("SENTENCEKV_SIM_SEED", std::to_string(seed).c_str(), 1);
  return ServerProcess(model, Flags(), SENTENCEKV_SIMULATED_SERVER_BINARY);
}

class SimulatedDaemon : public testing::Test {
 protected:
  // With a matrix of its own for the output it does not say one token only.
  const std::string model_ =
      WriteTinyGguf(MakeTinyModel({.context_length = kContext,
                                   .matrix_type = SourceType::kBF16,
                                   .embedding_type = SourceType::kBF16,
                                   .tied_output = false}));
  ServerProcess cpu_{model_, Flags()};
};

TEST_F(SimulatedDaemon, GivesTheCpusTokensAloneTogetherAndBesideCancels) {
  const std::vector<v1::GenerateRequest> requests = Requests();
  std::vector<ToldTokens> expected;
  for (const auto& request : requests) {
    expected.push_back(Ask(cpu_, request));
    ASSERT_EQ(expected.back().size(), size_t{kMaxTokens});
  }
  // Every budget is small enough to change the answer.
  EXPECT_NE(expected[0], expected[1]);
  EXPECT_NE(expected[0], expected[2]);
  std::vector<ToldTokens> first;
  for (int seed = 1; seed <= NumSeeds(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    ServerProcess server = StartSimulated(model_, seed);
    std::vector<ToldTokens> together;
    {
      std::jthread other([&] {
        AskAndHangUp(server, requests[static_cast<size_t>(seed) % 4], 100, 3);
      });
      together = AskAtOnce(server, requests);
    }
    ExpectSameAnswers(together, expected);
    // Bit for bit the same in another order, and alone.
    if (seed == 1) {
      for (const auto& request : requests)
        first.push_back(Ask(server, request));
    }
    EXPECT_EQ(together, first);
    EXPECT_EQ(server.Stop(), 0) << server.log();
  }
}

TEST_F(SimulatedDaemon, PrintsWhatDeviceMemoryIsHeldFor) {
  ServerProcess server = StartSimulated(model_, 1);
  EXPECT_THAT(server.log(),
              AllOf(HasSubstr("device memory"), HasSubstr("weights"),
                    HasSubstr("K and V"), HasSubstr("free")));
}

TEST_F(SimulatedDaemon, EndsWhenTheDeviceIsLost) {
  // The model has run for some steps by then.
  setenv("SENTENCEKV_SIM_LOST_AFTER", "300", 1);
  ServerProcess server = StartSimulated(model_, 1);
  unsetenv("SENTENCEKV_SIM_LOST_AFTER");
  const auto context = server.connection().NewContext();
  const Answer answer = ReadAnswer(server.connection().stub(), *context,
                                   StoryRequest("full", {}, 300), nullptr);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_NE(answer.status.error_message().find("lost its device"),
            std::string::npos)
      << answer.status.error_message();
  EXPECT_EQ(server.process().Wait(), static_cast<int>(ExitCode::kBackend))
      << server.log();
}

// Of real checkpoints, on prompts whose answers are never close: the CPU's
// greedy tokens, one and all.
void ExpectTheCpusTokens(const std::string& model,
                         const std::vector<std::string>& more_flags,
                         std::vector<v1::GenerateRequest> requests) {
  std::vector<std::string> flags = {
      "--chat_format", "plain", "--cpu_level",      "portable",
      "--kv_dtype",    "bf16",  "--kv_host_memory", "64MiB"};
  flags.insert(flags.end(), more_flags.begin(), more_flags.end());
  ServerProcess cpu(model, flags);
  ServerProcess simulated(model, flags, SENTENCEKV_SIMULATED_SERVER_BINARY);
  const std::vector<ToldTokens> actual = AskAtOnce(simulated, requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    SCOPED_TRACE(requests[i].kv().policy());
    const ToldTokens expected = Ask(cpu, requests[i]);
    size_t num_compared = 0;
    ExpectSameTokens(actual[i], expected, &num_compared);
    EXPECT_EQ(num_compared, expected.size());
  }
  EXPECT_EQ(simulated.Stop(), 0) << simulated.log();
}

v1::GenerateRequest TextRequest(const std::string& policy,
                                const std::string& text, int32_t max_tokens) {
  v1::GenerateRequest request = StoryRequest(policy, {}, max_tokens);
  request.set_text(text);
  request.mutable_output()->set_logprobs(2);
  return request;
}

TEST(SimulatedDaemonOfStories, TellsTheCpusStory) {
  const auto model = SharedPath("models/stories260k");
  SKV_SKIP_WITHOUT(model, "models/stories260k");
  // Long enough that sentences are left out.
  const std::string text = "Once upon a time";
  ExpectTheCpusTokens(
      *model, {},
      {TextRequest("full", text, 160), TextRequest("sentence", text, 160),
       TextRequest("sentence-paper", text, 160)});
}

TEST(SimulatedDaemonOfSmolLm, GivesTheCpusTokens) {
  const auto model = SmolLmPath();
  SKV_SKIP_WITHOUT(model, "SmolLM2-135M-Instruct.Q4_1.gguf");
  ExpectTheCpusTokens(*model, {"--context_length", "512"},
                      {TextRequest("full", "1, 2, 3, 4, 5, 6, 7,", 16)});
}

}  // namespace
}  // namespace sentencekv
