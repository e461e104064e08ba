// The programs that users run, together: client process, daemon process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "kernels/kv_layout.h"
#include "nlohmann/json.hpp"
#include "tests/integration/server_process.h"
#include "tests/support/test_files.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class ClientAndDaemon : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = new ServerProcess(
        WriteTinyGguf(MakeTinyModel({})),
        {"--model_name", "tiny", "--chat_format", "chatml", "--threads", "1"});
  }
  static void TearDownTestSuite() {
    EXPECT_EQ(server_->Stop(), 0) << server_->log();
    delete server_;
  }
  static ServerProcess* server_;
};

ServerProcess* ClientAndDaemon::server_ = nullptr;

TEST_F(ClientAndDaemon, HealthIsServing) {
  EXPECT_EQ(server_->Client("health", {}).out, "SERVING\n");
  EXPECT_EQ(server_->Client("health", {"sentencekv.v1.SentenceKv"}).status, 0);
  EXPECT_EQ(server_->Client("health", {"no.such.Service"}).status, 4);
}

TEST_F(ClientAndDaemon, ModelsNamesTheModel) {
  const auto json =
      nlohmann::json::parse(server_->Client("models", {"--json"}).out);
  EXPECT_EQ(json["name"], "tiny");
  EXPECT_EQ(json["architecture"], "llama");
  EXPECT_EQ(json["chat_format"], "chatml");
  EXPECT_EQ(json["context_length"], TinyModelOptions().context_length);
  EXPECT_THAT(json["kv_policies"], testing::Contains("full"));
}

TEST_F(ClientAndDaemon, GenerateGivesTheSameTextStreamedAndAsJson) {
  const std::vector<std::string> kFlags = {
      "--prompt", "the quick brown fox", "--temperature", "0", "--max-tokens",
      "12",       "--ignore-eos"};
  const ProgramResult streamed = server_->Client("generate", kFlags);
  ASSERT_EQ(streamed.status, 0) << streamed.err;
  std::vector<std::string> flags = kFlags;
  flags.push_back("--json");
  const auto json =
      nlohmann::json::parse(server_->Client("generate", flags).out);
  EXPECT_EQ(json["text"].get<std::string>() + "\n", streamed.out);
  EXPECT_EQ(json["token_ids"].size(), 12u);
  EXPECT_EQ(json["generated_tokens"], 12);
  EXPECT_GT(json["prompt_tokens"], 0);
  EXPECT_EQ(json["finish_reason"], "length");
  EXPECT_LE(json["ttft_ms"], json["total_ms"]);
}

TEST_F(ClientAndDaemon, ARepeatedPromptIsNotComputedAgain) {
  const auto generate = [&](std::vector<std::string> flags) {
    flags.insert(flags.end(), {"--prompt", std::string(400, 'x') + " and so on",
                               "--temperature", "0", "--max-tokens", "24",
                               "--ignore-eos", "--json"});
    return nlohmann::json::parse(server_->Client("generate", flags).out);
  };
  const auto first = generate({});
  const int64_t prompt_tokens = first["prompt_tokens"];
  ASSERT_GE(prompt_tokens, 2 * kPageTokens);
  EXPECT_EQ(first["cached_tokens"], 0);
  const auto second = generate({});
  EXPECT_EQ(second["token_ids"], first["token_ids"]);
  EXPECT_GE(second["cached_tokens"],
            (prompt_tokens - 1) / kPageTokens * kPageTokens);
  EXPECT_LT(second["cached_tokens"], prompt_tokens);
  // Neither of another salt nor of a request that bypasses.
  for (const std::vector<std::string>& flags :
       {std::vector<std::string>{"--cache-salt", "another"},
        std::vector<std::string>{"--bypass-prefix-cache"}}) {
    const auto apart = generate(flags);
    EXPECT_EQ(apart["cached_tokens"], 0) << flags[0];
    EXPECT_EQ(apart["token_ids"], first["token_ids"]);
  }
  EXPECT_GT(server_->AwaitIdle().kv_pages_cached(), 0);
  const auto reset =
      nlohmann::json::parse(server_->Client("reset-cache", {"--json"}).out);
  EXPECT_GT(reset["dropped_tokens"], prompt_tokens - kPageTokens);
  EXPECT_EQ(server_->Stats().kv_pages_cached(), 0);
  const auto third = generate({});
  EXPECT_EQ(third["cached_tokens"], 0);
  EXPECT_EQ(third["token_ids"], first["token_ids"]);
}

TEST_F(ClientAndDaemon, ThePrefixCacheCanBeTurnedOff) {
  ServerProcess server(WriteTinyGguf(MakeTinyModel({})),
                       {"--threads", "1", "--prefix_cache=false"});
  for (int i = 0; i < 2; ++i) {
    const auto json = nlohmann::json::parse(
        server
            .Client("generate", {"--prompt", std::string(200, 'x'),
                                 "--max-tokens", "2", "--json"})
            .out);
    EXPECT_EQ(json["cached_tokens"], 0);
  }
  EXPECT_EQ(server.Client("reset-cache", {}).out, "dropped_tokens  0\n");
  EXPECT_EQ(server.Stats().prefix_query_tokens(), 0);
  EXPECT_EQ(server.Stop(), 0);
}

TEST_F(ClientAndDaemon, SameSeedSameText) {
  const auto generate = [&](const char* seed) {
    return server_
        ->Client("generate", {"--prompt", "a", "--temperature", "1.5", "--seed",
                              seed, "--max-tokens", "24", "--ignore-eos"})
        .out;
  };
  EXPECT_EQ(generate("7"), generate("7"));
  EXPECT_NE(generate("7"), generate("8"));
}

TEST_F(ClientAndDaemon, TokenIdsAsPromptEqualTheText) {
  const auto ids = server_->Client("tokenize", {"--prompt", "hello there"});
  ASSERT_EQ(ids.status, 0) << ids.err;
  const std::vector<std::string> kEnd = {"--temperature", "0", "--max-tokens",
                                         "8", "--ignore-eos"};
  std::vector<std::string> from_text = {"--prompt", "hello there"};
  std::vector<std::string> from_ids = {"--prompt-ids", ids.out};
  from_text.insert(from_text.end(), kEnd.begin(), kEnd.end());
  from_ids.insert(from_ids.end(), kEnd.begin(), kEnd.end());
  EXPECT_EQ(server_->Client("generate", from_text).out,
            server_->Client("generate", from_ids).out);
}

TEST_F(ClientAndDaemon, DetokenizeReversesTokenize) {
  const std::string text = "hello, wörld \xF0\x9F\x8C\x8D";
  const auto ids =
      server_->Client("tokenize", {"--prompt-file", "-", "--no-bos"}, text);
  ASSERT_EQ(ids.status, 0) << ids.err;
  EXPECT_EQ(server_->Client("detokenize", {ids.out}).out, text + "\n");
}

TEST_F(ClientAndDaemon, ChatAnswersPipedLines) {
  const ProgramResult run = server_->Client(
      "chat", {"--max-tokens", "4", "--temperature", "0"}, "hi\nagain\n");
  EXPECT_EQ(run.status, 0) << run.err;
}

TEST_F(ClientAndDaemon, ChatPromptIsWhatTokenizeShows) {
  const std::vector<std::string> kChat = {"--chat", "--prompt", "hi",
                                          "--system", "be brief"};
  auto tokenize = kChat;
  tokenize.push_back("--json");
  const auto ids =
      nlohmann::json::parse(server_->Client("tokenize", tokenize).out);
  auto generate = kChat;
  generate.insert(generate.end(), {"--json", "--max-tokens", "1"});
  const auto answer =
      nlohmann::json::parse(server_->Client("generate", generate).out);
  EXPECT_EQ(answer["prompt_tokens"], ids["count"]);
}

TEST_F(ClientAndDaemon, LogprobsComeWithEachToken) {
  const auto json = nlohmann::json::parse(
      server_
          ->Client("generate",
                   {"--prompt", "a", "--max-tokens", "3", "--ignore-eos",
                    "--temperature", "0", "--logprobs", "2", "--json"})
          .out);
  ASSERT_EQ(json["logprobs"].size(), 3u);
  for (const auto& token : json["logprobs"]) {
    EXPECT_LE(token["logprob"], 0.0);
    ASSERT_EQ(token["top"].size(), 2u);
    // Greedy: the chosen token is the likeliest.
    EXPECT_EQ(token["token_id"], token["top"][0]["token_id"]);
  }
}

TEST_F(ClientAndDaemon, BenchMeasures) {
  const ProgramResult run = server_->Client(
      "bench", {"--concurrency", "4", "--requests", "8", "--prompt-tokens",
                "20", "--max-tokens", "5", "--json"});
  ASSERT_EQ(run.status, 0) << run.err;
  const auto json = nlohmann::json::parse(run.out);
  EXPECT_EQ(json["completed"], 8);
  EXPECT_EQ(json["generated_tokens"], 40);
  EXPECT_EQ(json["prompt_tokens"], 160);
}

TEST_F(ClientAndDaemon, CancelOfAnUnknownRequestIsNotFound) {
  const ProgramResult run = server_->Client("cancel", {"nobody"});
  EXPECT_EQ(run.status, 4);
  EXPECT_THAT(run.err, StartsWith("sentencekv: NOT_FOUND: "));
}

TEST(Daemon, InspectPrintsWhatTheFileContains) {
  const ProgramResult run =
      RunProgram({SENTENCEKV_SERVER_BINARY, "--model",
                  WriteTinyGguf(MakeTinyModel({})), "--inspect"});
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("llama"));
}

TEST(Daemon, RefusesWhatItCannotLoad) {
  const std::string folder = MakeTempDir();
  WriteFile(folder + "/broken.gguf", "GGUF and then nothing");
  for (const std::string& path :
       {folder + "/missing.gguf", folder + "/broken.gguf"}) {
    const ProgramResult run = RunProgram(
        {SENTENCEKV_SERVER_BINARY, "--model", path, "--listen", "127.0.0.1:0"});
    EXPECT_EQ(run.status, 3) << path << run.err << run.out;
  }
}

TEST(SmolLm, AnswersAQuestionInEnglish) {
  const auto model = SmolLmPath();
  SKV_SKIP_WITHOUT(model, "SmolLM2 (deploy/fetch_model.sh)");
  ServerProcess server(*model);
  const ProgramResult run =
      server.Client("generate", {"--chat", "--prompt", "Why is the sky blue?",
                                 "--temperature", "0", "--max-tokens", "48"});
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("scatter"));
  EXPECT_EQ(server.Stop(), 0);
}

}  // namespace
}  // namespace sentencekv
