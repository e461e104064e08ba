// A daemon whose device has memory of its own, for little more than one layer
// of the longest request, beside one whose K and V are used in place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/integration/server_process.h"
#include "tests/integration/story_requests.h"
#include "tests/support/metrics_scrape.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

using ::testing::Contains;
using ::testing::Key;

constexpr int kContext = 1024;
constexpr int kMaxTokens = 40;
// One layer of the context takes 64 frames, 16 tokens of 2 KV heads each.
constexpr int kFrames = 80;
constexpr int kDeviceBytes = kFrames * 2048;

std::vector<v1::GenerateRequest> Requests() {
  std::vector<v1::GenerateRequest> requests;
  for (const int ending : {1, 2}) {
    const Story story = {.number = 1, .ending = ending};
    for (const char* policy : {"full", "sentence", "sentence-paper"}) {
      requests.push_back(StoryRequest(policy, story, kMaxTokens));
    }
    requests.push_back(
        StoryRequest("sentence", {.number = 2, .ending = ending}, kMaxTokens));
    requests.back().mutable_kv()->set_token_budget(1);
    requests.back().mutable_kv()->set_index_kind("sign");
  }
  return requests;
}

// Samples of what the device did, once nothing runs.
std::map<std::string, double> DeviceMetrics(ServerProcess& server) {
  server.AwaitIdle();
  std::map<std::string, double> samples =
      ParseExposition(HttpGet(server.metrics_port(), "/metrics"));
  std::erase_if(samples, [](const auto& sample) {
    return !sample.first.starts_with("sentencekv_device_");
  });
  return samples;
}

std::string Device(const std::string& name, const std::string& labels = "") {
  return "sentencekv_device_" + name + "{model_name=\"tiny\"" + labels + "}";
}

class DeviceMemoryDaemon : public testing::Test {
 protected:
  static std::vector<std::string> Flags(int64_t device_bytes) {
    return {"--model_name",
            "tiny",
            "--threads",
            "1",
            "--max_step_tokens",
            "64",
            "--max_running",
            "4",
            "--cpu_discrete_memory",
            std::to_string(device_bytes)};
  }

  // With a matrix of its own for the output it does not say one token only.
  const std::string model_ = WriteTinyGguf(
      MakeTinyModel({.context_length = kContext, .tied_output = false}));
  ServerProcess in_place_{model_, Flags(0)};
  ServerProcess copied_{model_, Flags(kDeviceBytes)};
};

TEST_F(DeviceMemoryDaemon, GivesTheSameAnswersAndTellsWhatItCopied) {
  const std::vector<v1::GenerateRequest> requests = Requests();
  std::vector<ToldTokens> expected;
  for (const auto& request : requests) {
    expected.push_back(Ask(in_place_, request));
    ASSERT_EQ(expected.back().size(), size_t{kMaxTokens});
  }
  // Every budget is small enough to change the answer.
  EXPECT_NE(expected[0], expected[1]);
  EXPECT_NE(expected[0], expected[2]);

  constexpr int kBegun = 10;
  ToldTokens begun;
  std::vector<ToldTokens> together;
  {
    std::jthread other([&] {
      // Half of the context.
      begun = AskAndHangUp(copied_, requests[0], kContext / 2, kBegun);
    });
    together = AskAtOnce(copied_, requests);
  }
  EXPECT_EQ(together, expected);
  EXPECT_EQ(begun,
            ToldTokens(expected[0].begin(), expected[0].begin() + kBegun));
  // Once more, each alone: prompts are found in the prefix cache.
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(Ask(copied_, requests[i]), expected[i]) << "request " << i;
  }

  std::map<std::string, double> copied = DeviceMetrics(copied_);
  EXPECT_EQ(copied[Device("frame_capacity")], kFrames);
  // Whatever ended, the request that was hung up included, has none left.
  EXPECT_EQ(copied[Device("frames_used")], 0);
  const std::map<std::string, double> in_place = DeviceMetrics(in_place_);
  for (const std::string& name :
       {Device("page_hits_total"), Device("page_misses_total"),
        Device("chosen_hits_total"), Device("chosen_misses_total"),
        Device("evictions_total"),
        Device("bytes_copied_total", ",direction=\"to_device\""),
        Device("bytes_copied_total", ",direction=\"to_host\""),
        Device("copy_stall_seconds_total")}) {
    EXPECT_GT(copied[name], 0) << name;
    EXPECT_THAT(in_place, Contains(Key(name)));
  }
  for (const auto& [name, value] : in_place) EXPECT_EQ(value, 0) << name;
  EXPECT_EQ(copied_.Stop(), 0) << copied_.log();
  EXPECT_EQ(in_place_.Stop(), 0) << in_place_.log();
}

}  // namespace
}  // namespace sentencekv
