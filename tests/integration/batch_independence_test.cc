// Greedy text of a request is the same alone and among 16 concurrent ones, for
// every chunk size, thread count and instruction set tried.
#include <gtest/gtest.h>

#include <thread>

#include "fmt/format.h"
#include "tests/integration/server_process.h"
#include "tests/support/cpu_levels.h"
#include "tests/support/test_files.h"
#include "tests/support/tiny_model.h"
#include "tests/support/tiny_tensors.h"

namespace sentencekv {
namespace {

struct Setting {
  std::string cpu_level;
  int threads;
  int step_tokens;    // --max_step_tokens
  int beside_decode;  // --max_prefill_tokens_beside_decode
};

std::vector<std::string> Flags(const Setting& setting) {
  return {"--cpu_level",
          setting.cpu_level,
          "--threads",
          std::to_string(setting.threads),
          "--max_step_tokens",
          std::to_string(setting.step_tokens),
          "--max_prefill_tokens_beside_decode",
          std::to_string(setting.beside_decode)};
}

std::vector<Setting> Settings() {
  std::vector<Setting> settings;
  for (const CpuVariant& variant : CpuVariants()) {
    // Chunks of one token, of an odd number, of a page, of a whole prompt.
    for (const auto& [step, beside] :
         {std::pair{17, 1}, {32, 7}, {64, 16}, {256, 64}}) {
      settings.push_back({std::string(Name(variant.level)), variant.num_threads,
                          step, beside});
    }
  }
  return settings;
}

// Prompts of different lengths, the same on every machine.
std::vector<v1::GenerateRequest> Requests(int count, int32_t vocab_size,
                                          int longest, int32_t max_tokens) {
  std::vector<v1::GenerateRequest> requests;
  TinyRandom random(20261122);
  for (int i = 0; i < count; ++i) {
    std::vector<int32_t> prompt(1 + random.Next() % longest);
    for (int32_t& id : prompt) {
      id = static_cast<int32_t>(random.Next() % vocab_size);
    }
    requests.push_back(GreedyRequest(prompt, max_tokens));
  }
  return requests;
}

Answer Ask(ServerProcess& server, const v1::GenerateRequest& request) {
  const auto context = server.connection().NewContext();
  return ReadAnswer(server.connection().stub(), *context, request, nullptr);
}

std::vector<Answer> AskAtOnce(
    ServerProcess& server, const std::vector<v1::GenerateRequest>& requests) {
  std::vector<Answer> answers(requests.size());
  std::vector<std::jthread> threads;
  for (size_t i = 0; i < requests.size(); ++i) {
    threads.emplace_back([&, i] { answers[i] = Ask(server, requests[i]); });
  }
  threads.clear();
  return answers;
}

// Every request alone, then all at once: the same tokens and the same text.
void ExpectSameAloneAndTogether(
    ServerProcess& server, const std::vector<v1::GenerateRequest>& requests) {
  std::vector<Answer> alone;
  for (const auto& request : requests) alone.push_back(Ask(server, request));
  const std::vector<Answer> together = AskAtOnce(server, requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_TRUE(alone[i].status.ok()) << alone[i].status.error_message();
    ASSERT_TRUE(together[i].status.ok()) << together[i].status.error_message();
    EXPECT_EQ(alone[i].token_ids, together[i].token_ids) << "request " << i;
    EXPECT_EQ(alone[i].text, together[i].text) << "request " << i;
  }
}

TEST(BatchIndependence, TinyModelInEverySetting) {
  const TinyModel tiny = MakeTinyModel({.tied_output = false});
  const std::string path = WriteTinyGguf(tiny);
  const auto requests = Requests(
      16, static_cast<int32_t>(tiny.vocabulary.tokens.size()), 150, 24);
  for (const Setting& setting : Settings()) {
    SCOPED_TRACE(fmt::format("{}, {} threads, steps of {}, beside decode {}",
                             setting.cpu_level, setting.threads,
                             setting.step_tokens, setting.beside_decode));
    ServerProcess server(path, Flags(setting));
    ExpectSameAloneAndTogether(server, requests);
    EXPECT_EQ(server.Stop(), 0);
  }
}

TEST(BatchIndependence, SmolLmInSomeSettings) {
  const auto model = SmolLmPath();
  SKV_SKIP_WITHOUT(model, "SmolLM2 (deploy/fetch_model.sh)");
  const auto requests = Requests(16, 49152, 60, 8);
  const std::string level(Name(DetectCpuLevel()));
  for (const Setting& setting :
       {Setting{level, 2, 64, 16}, Setting{level, 1, 256, 64}}) {
    SCOPED_TRACE(fmt::format("{} threads, steps of {}", setting.threads,
                             setting.step_tokens));
    ServerProcess server(*model, Flags(setting));
    ExpectSameAloneAndTogether(server, requests);
  }
}

}  // namespace
}  // namespace sentencekv
