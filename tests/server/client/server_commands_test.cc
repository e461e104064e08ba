// models, stats, cancel, reset-cache, health, tokenize, detokenize and the
// command line as such, against a scripted server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/version.h"
#include "nlohmann/json.hpp"
#include "tests/server/client/client_run.h"
#include "tests/server/client/fake_service.h"

namespace sentencekv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

ClientRun Ask(const FakeService& server, std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), {"--server", server.address()});
  return RunClientWith(std::move(arguments));
}

FakeScript ServerScript() {
  FakeScript script;
  script.model.set_name("smol");
  script.model.set_parameters(134'515'008);
  script.model.add_kv_policies("full");
  script.model.add_kv_policies("sentence");
  script.model.add_stop_token_ids(2);
  script.stats.set_kv_pages_free(1LL << 40);
  script.stats.set_uptime_seconds(1.5);
  script.stats.set_draining(true);
  script.reset_cache.set_dropped_tokens(4096);
  script.tokenize.add_token_ids(7);
  script.tokenize.add_token_ids(9);
  script.tokenize.add_token_bytes("He");
  script.tokenize.add_token_bytes("\xff\n");
  script.detokenize.set_text("Hello");
  return script;
}

TEST(ModelsCommand, PrintsLinesOrJson) {
  const FakeService server(ServerScript());
  const ClientRun lines = Ask(server, {"models"});
  EXPECT_EQ(lines.code, ClientExitCode::kOk);
  EXPECT_THAT(lines.out, StartsWith("name                smol\n"));
  EXPECT_THAT(lines.out, HasSubstr("kv_policies         full, sentence\n"));
  const auto json =
      nlohmann::json::parse(Ask(server, {"models", "--json"}).out);
  EXPECT_EQ(json["parameters"], 134'515'008);
  EXPECT_EQ(json["kv_policies"], nlohmann::json({"full", "sentence"}));
  EXPECT_EQ(json["stop_token_ids"], nlohmann::json({2}));
}

TEST(StatsCommand, PrintsEveryFieldEvenWhenZero) {
  const FakeService server(ServerScript());
  const auto json = nlohmann::json::parse(Ask(server, {"stats", "--json"}).out);
  EXPECT_EQ(
      json.size(),
      static_cast<size_t>(v1::GetStatsResponse::descriptor()->field_count()));
  EXPECT_EQ(json["kv_pages_free"], 1LL << 40);
  EXPECT_EQ(json["uptime_seconds"], 1.5);
  EXPECT_EQ(json["draining"], true);
  EXPECT_EQ(json["steps"], 0);
}

TEST(CancelCommand, SendsTheId) {
  const FakeService server(ServerScript());
  EXPECT_EQ(Ask(server, {"cancel", "r7"}).code, ClientExitCode::kOk);
  EXPECT_EQ(server.cancel_requests()[0].request_id(), "r7");
  EXPECT_EQ(Ask(server, {"cancel"}).code, ClientExitCode::kUsage);
}

TEST(ResetCacheCommand, PrintsWhatWasDropped) {
  const FakeService server(ServerScript());
  EXPECT_EQ(Ask(server, {"reset-cache"}).out, "dropped_tokens  4096\n");
  EXPECT_EQ(Ask(server, {"reset-cache", "--json"}).out,
            "{\"dropped_tokens\":4096}\n");
}

TEST(HealthCommand, TellsByItsExitCode) {
  FakeScript not_serving;
  not_serving.health = grpc::health::v1::HealthCheckResponse::NOT_SERVING;
  const FakeService serving(ServerScript());
  const FakeService stopping(not_serving);
  EXPECT_EQ(Ask(serving, {"health"}).out, "SERVING\n");
  EXPECT_EQ(Ask(serving, {"health", "sentencekv.v1.SentenceKv"}).code,
            ClientExitCode::kOk);
  EXPECT_EQ(Ask(serving, {"health", "other"}).code, ClientExitCode::kInvalid);
  const ClientRun run = Ask(stopping, {"health"});
  EXPECT_EQ(run.code, ClientExitCode::kUnreachable);
  EXPECT_THAT(run.err, HasSubstr("NOT_SERVING"));
}

TEST(HealthCommand, WaitsForAServerThatStarts) {
  FakeScript script;
  script.health_failures = 2;
  const FakeService server(script);
  EXPECT_EQ(Ask(server, {"health", "--wait", "30"}).code, ClientExitCode::kOk);
}

TEST(TokenizeCommand, PrintsIdsPiecesOrJson) {
  const FakeService server(ServerScript());
  EXPECT_EQ(Ask(server, {"tokenize", "--prompt", "Hello"}).out, "7,9\n");
  EXPECT_EQ(Ask(server, {"tokenize", "--prompt", "Hello", "--pieces"}).out,
            "      7 \"He\"\n      9 \"\uFFFD\\n\"\n");
  const auto json = nlohmann::json::parse(
      Ask(server, {"tokenize", "--prompt", "Hello", "--json"}).out);
  EXPECT_EQ(json["token_ids"], nlohmann::json({7, 9}));
  EXPECT_EQ(json["count"], 2);
  EXPECT_EQ(json["pieces"][0], "He");
}

TEST(TokenizeCommand, SendsWhatGenerateWouldSend) {
  const FakeService server(ServerScript());
  Ask(server, {"tokenize", "--chat", "--prompt", "Hi", "--system", "S",
               "--parse-special", "--no-bos", "--model", "m"});
  const v1::TokenizeRequest request = server.tokenize_requests()[0];
  EXPECT_EQ(request.chat().messages_size(), 2);
  EXPECT_TRUE(request.parse_special());
  EXPECT_TRUE(request.has_add_bos());
  EXPECT_FALSE(request.add_bos());
  EXPECT_EQ(request.model(), "m");
}

TEST(DetokenizeCommand, PrintsTheText) {
  const FakeService server(ServerScript());
  EXPECT_EQ(Ask(server, {"detokenize", "7,9"}).out, "Hello\n");
  EXPECT_EQ(Ask(server, {"detokenize", "--ids", "7", "--json"}).out,
            "{\"text\":\"Hello\"}\n");
  EXPECT_THAT(server.detokenize_requests()[0].token_ids(), ElementsAre(7, 9));
  EXPECT_EQ(Ask(server, {"detokenize", "x"}).code, ClientExitCode::kUsage);
}

TEST(ServerCommands, ErrorsOfTheServerBecomeExitCodes) {
  FakeScript script;
  script.other_status = grpc::Status(grpc::StatusCode::NOT_FOUND, "no such");
  const FakeService server(script);
  const std::vector<std::vector<std::string>> kCommands = {
      {"models"},
      {"stats"},
      {"cancel", "r"},
      {"reset-cache"},
      {"tokenize", "--prompt", "a"},
      {"detokenize", "1"},
      {"bench", "--requests", "1"}};
  for (const auto& command : kCommands) {
    const ClientRun run = Ask(server, command);
    EXPECT_EQ(run.code, ClientExitCode::kInvalid) << command[0];
    EXPECT_EQ(run.err, "sentencekv: NOT_FOUND: no such\n") << command[0];
    EXPECT_THAT(run.out, IsEmpty()) << command[0];
  }
}

TEST(CommandLine, HelpAndVersionSucceed) {
  EXPECT_EQ(RunClientWith({"--version"}).out, std::string(kVersion) + "\n");
  EXPECT_THAT(RunClientWith({"--help"}).out, HasSubstr("generate"));
  const ClientRun run = RunClientWith({"generate", "--help"});
  EXPECT_EQ(run.code, ClientExitCode::kOk);
  EXPECT_THAT(run.out, HasSubstr("--assistant-prefix"));
  EXPECT_THAT(run.err, IsEmpty());
}

TEST(CommandLine, WrongUsageIsTold) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{},
                                             {"nonsense"},
                                             {"models", "extra"},
                                             {"stats", "--timeout", "-1"},
                                             {"bench", "--concurrency", "0"}}) {
    const ClientRun run = RunClientWith(arguments);
    EXPECT_EQ(run.code, ClientExitCode::kUsage);
    EXPECT_THAT(run.err, StartsWith("sentencekv: USAGE: "));
  }
}

TEST(CommandLine, ServerComesFromTheEnvironmentUnlessGiven) {
  const FakeService server(ServerScript());
  setenv("SENTENCEKV_SERVER", server.address().c_str(), 1);
  EXPECT_EQ(RunClientWith({"health"}).code, ClientExitCode::kOk);
  setenv("SENTENCEKV_SERVER", "127.0.0.1:1", 1);
  EXPECT_EQ(Ask(server, {"health"}).code, ClientExitCode::kOk);
  unsetenv("SENTENCEKV_SERVER");
}

}  // namespace
}  // namespace sentencekv
