// sentencekv generate, from flags to output, against a scripted server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "nlohmann/json.hpp"
#include "tests/server/client/client_run.h"
#include "tests/server/client/fake_service.h"
#include "tests/support/test_files.h"

namespace sentencekv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

ClientRun Generate(const FakeService& server,
                   std::vector<std::string> arguments,
                   const std::string& input = "",
                   Interrupt* interrupt = nullptr) {
  arguments.insert(arguments.begin(),
                   {"generate", "--server", server.address()});
  return RunClientWith(std::move(arguments), input, false, interrupt);
}

TEST(GenerateCommand, StreamsTheTextAndEndsTheLine) {
  const FakeService server(HelloWorld());
  const ClientRun run = Generate(server, {"--prompt", "Hi"});
  EXPECT_EQ(run.code, ClientExitCode::kOk);
  EXPECT_EQ(run.out, "Hello world\n");
  EXPECT_THAT(run.err, IsEmpty());
  ASSERT_EQ(server.generate_requests().size(), 1u);
  EXPECT_EQ(server.generate_requests()[0].text(), "Hi");
}

TEST(GenerateCommand, JsonHasEveryDocumentedField) {
  FakeScript script = HelloWorld();
  script.messages[0].mutable_token_ids()->Set(0, 11);
  v1::Finish* finish = script.messages[2].mutable_finish();
  finish->set_stop_token_id(2);
  finish->mutable_usage()->set_cached_tokens(1);
  finish->mutable_usage()->set_queue_seconds(0.25);
  const FakeService server(script);
  const ClientRun run = Generate(server, {"--prompt", "Hi", "--json"});
  ASSERT_EQ(run.code, ClientExitCode::kOk) << run.err;
  const auto json = nlohmann::json::parse(run.out);
  EXPECT_EQ(json["text"], "Hello world");
  EXPECT_EQ(json["token_ids"], nlohmann::json({11, 12}));
  EXPECT_EQ(json["prompt_tokens"], 3);
  EXPECT_EQ(json["cached_tokens"], 1);
  EXPECT_EQ(json["generated_tokens"], 2);
  EXPECT_EQ(json["finish_reason"], "stop");
  EXPECT_EQ(json["stop_token_id"], 2);
  EXPECT_EQ(json["queue_ms"], 250.0);
  EXPECT_EQ(json["request_id"], "made-by-server");
  EXPECT_GT(json["ttft_ms"], 0.0);
  EXPECT_GE(json["total_ms"], json["ttft_ms"]);
  EXPECT_FALSE(json.contains("logprobs"));
}

TEST(GenerateCommand, JsonCarriesLogprobsWithTheirBytes) {
  FakeScript script;
  v1::GenerateResponse message = Increment("A", {5});
  v1::TokenLogprobs* logprobs = message.add_logprobs();
  logprobs->mutable_chosen()->set_token_id(5);
  logprobs->mutable_chosen()->set_logprob(-0.5);
  logprobs->mutable_chosen()->set_token("\xc3");  // half a code point
  logprobs->add_top()->set_token_id(6);
  message.add_prompt_logprobs()->set_token_id(4);
  script.messages = {message, Last(v1::FINISH_REASON_LENGTH, 1, 1)};
  const FakeService server(script);
  const ClientRun run = Generate(server, {"--prompt", "x", "--json"});
  const auto json = nlohmann::json::parse(run.out);
  EXPECT_EQ(json["finish_reason"], "length");
  EXPECT_EQ(json["logprobs"][0]["token_id"], 5);
  EXPECT_EQ(json["logprobs"][0]["bytes"], nlohmann::json({0xc3}));
  EXPECT_EQ(json["logprobs"][0]["top"][0]["token_id"], 6);
  EXPECT_EQ(json["prompt_logprobs"][0]["token_id"], 4);
}

TEST(GenerateCommand, ShowsWhatTheAnswerWasReadFrom) {
  FakeScript script = HelloWorld();
  v1::SentenceReads* reads = script.messages[2].add_reads();
  reads->set_text("Hello world");
  reads->add_sources()->set_text("Say hello.");
  const FakeService server(script);
  EXPECT_EQ(Generate(server, {"--prompt", "a", "--show-sentences"}).out,
            "Hello world\n\nHello world\n"
            "               0 %     0  Say hello.\n");
  const auto json = nlohmann::json::parse(
      Generate(server, {"--prompt", "a", "--show-sentences=5", "--json",
                        "--kv-policy", "full"})
          .out);
  EXPECT_EQ(json["sentences"][0]["sources"][0]["text"], "Say hello.");
  Generate(server, {"--prompt", "a"});
  const auto requests = server.generate_requests();
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_EQ(requests[0].output().sentence_trace(), 3);
  EXPECT_EQ(requests[0].kv().policy(), "sentence");
  EXPECT_TRUE(requests[0].kv().has_dense_tokens());
  EXPECT_EQ(requests[0].kv().dense_tokens(), 0);
  EXPECT_EQ(requests[1].output().sentence_trace(), 5);
  EXPECT_EQ(requests[1].kv().policy(), "full");
  EXPECT_FALSE(requests[1].kv().has_dense_tokens());
  EXPECT_FALSE(requests[2].output().has_sentence_trace());
  EXPECT_FALSE(requests[2].kv().has_policy());
}

TEST(GenerateCommand, StatsGoToStandardError) {
  const FakeService server(HelloWorld());
  const ClientRun run = Generate(server, {"--prompt", "Hi", "--stats"});
  EXPECT_EQ(run.out, "Hello world\n");
  EXPECT_THAT(run.err, HasSubstr("3 prompt tokens (0 cached), 2 generated"));
}

TEST(GenerateCommand, ReadsThePromptFromFileOrStandardInput) {
  const std::string path = MakeTempDir() + "/prompt.txt";
  std::ofstream(path) << "from a file\n";
  const FakeService server(HelloWorld());
  EXPECT_EQ(Generate(server, {"--prompt-file", path}).code,
            ClientExitCode::kOk);
  EXPECT_EQ(Generate(server, {"--prompt-file", "-"}, "from stdin").code,
            ClientExitCode::kOk);
  EXPECT_EQ(Generate(server, {"--prompt-file", "-"}, "").code,
            ClientExitCode::kOk);
  const auto requests = server.generate_requests();
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_EQ(requests[0].text(), "from a file\n");
  EXPECT_EQ(requests[1].text(), "from stdin");
  EXPECT_EQ(requests[2].text(), "");
}

TEST(GenerateCommand, SendsTokenIds) {
  const FakeService server(HelloWorld());
  EXPECT_EQ(Generate(server, {"--prompt-ids", "1, 2,-3"}).code,
            ClientExitCode::kOk);
  EXPECT_THAT(server.generate_requests()[0].token_ids().ids(),
              ElementsAre(1, 2, -3));
}

TEST(GenerateCommand, SendsChatWithSystemAndPrefix) {
  const FakeService server(HelloWorld());
  Generate(server, {"--chat", "--prompt", "Hi", "--system", "Be brief",
                    "--assistant-prefix", "Well", "--parse-special"});
  const v1::GenerateRequest request = server.generate_requests()[0];
  ASSERT_EQ(request.chat().messages_size(), 2);
  EXPECT_EQ(request.chat().messages(0).role(), "system");
  EXPECT_EQ(request.chat().messages(0).content(), "Be brief");
  EXPECT_EQ(request.chat().messages(1).role(), "user");
  EXPECT_EQ(request.chat().messages(1).content(), "Hi");
  EXPECT_EQ(request.chat().assistant_prefix(), "Well");
  EXPECT_TRUE(request.parse_special());
}

TEST(GenerateCommand, SendsMessagesFromJson) {
  const FakeService server(HelloWorld());
  const ClientRun run = Generate(server, {"--messages", "-"},
                                 R"([{"role":"user","content":"a"},
                   {"role":"assistant","content":"b"},
                   {"role":"user","content":"c"}])");
  ASSERT_EQ(run.code, ClientExitCode::kOk) << run.err;
  EXPECT_EQ(server.generate_requests()[0].chat().messages_size(), 3);
}

TEST(GenerateCommand, WrongUsageIsToldAndSendsNothing) {
  const struct {
    std::vector<std::string> arguments;
    std::string error;
  } kCases[] = {
      {{}, "give one of --prompt"},
      {{"--prompt", "a", "--prompt-ids", "1"}, "give one of --prompt"},
      {{"--prompt-file", "/no/such/file"}, "cannot open file: /no/such/file"},
      {{"--prompt-ids", "1,x"}, "not a token id: 'x'"},
      {{"--prompt-ids", "99999999999"}, "not a token id: '99999999999'"},
      {{"--prompt-ids", "1", "--chat"}, "--chat takes text"},
      {{"--prompt", "a", "--system", "b"}, "need --chat"},
      {{"--messages", "-"}, "not a JSON array"},
      {{"--prompt", "a", "--logit-bias", "5"}, "not ID=VALUE: '5'"},
      {{"--prompt", "a", "--top-k", "many"}, "--top-k"},
      {{"--prompt", "a", "--no-such-flag"}, "--no-such-flag"},
  };
  const FakeService server(HelloWorld());
  for (const auto& test : kCases) {
    const ClientRun run = Generate(server, test.arguments);
    EXPECT_EQ(run.code, ClientExitCode::kUsage) << test.error;
    EXPECT_THAT(run.err, StartsWith("sentencekv: USAGE: "));
    EXPECT_THAT(run.err, HasSubstr(test.error));
    EXPECT_THAT(run.out, IsEmpty());
  }
  EXPECT_THAT(server.generate_requests(), IsEmpty());
}

TEST(GenerateCommand, RefusalPrintsFieldsAndGivesItsExitCode) {
  FakeScript script;
  script.status =
      DetailedStatus(grpc::StatusCode::INVALID_ARGUMENT, "request is not valid",
                     "sampling.temperature", "must be in 0..100", 0);
  const FakeService server(script);
  for (const bool json : {false, true}) {
    std::vector<std::string> arguments = {"--prompt", "a"};
    if (json) arguments.push_back("--json");
    const ClientRun run = Generate(server, arguments);
    EXPECT_EQ(run.code, ClientExitCode::kInvalid);
    EXPECT_THAT(run.out, IsEmpty());
    EXPECT_THAT(run.err,
                HasSubstr("\n  sampling.temperature: must be in 0..100\n"));
  }
}

TEST(GenerateCommand, FailureAfterAcceptanceStillGivesTheResult) {
  FakeScript script;
  script.messages = {Increment("Hel", {1}),
                     Last(v1::FINISH_REASON_DEADLINE, 1, 1)};
  script.status = grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, "too late");
  const FakeService server(script);
  const ClientRun run = Generate(server, {"--prompt", "a", "--json"});
  EXPECT_EQ(run.code, ClientExitCode::kCancelled);
  EXPECT_EQ(nlohmann::json::parse(run.out)["finish_reason"], "deadline");
  EXPECT_EQ(run.err, "sentencekv: DEADLINE_EXCEEDED: too late\n");
}

TEST(GenerateCommand, ServerThatIsNotThereIsUnreachable) {
  std::string address;
  { address = FakeService(FakeScript()).address(); }
  const ClientRun run =
      RunClientWith({"generate", "--server", address, "--prompt", "a"});
  EXPECT_EQ(run.code, ClientExitCode::kUnreachable);
  EXPECT_THAT(run.err, StartsWith("sentencekv: UNAVAILABLE: "));
}

TEST(GenerateCommand, TimeoutBecomesTheDeadline) {
  const FakeService server(HelloWorld());
  Generate(server, {"--prompt", "a", "--timeout", "50"});
  Generate(server, {"--prompt", "a"});
  const auto deadlines = server.deadlines_seconds();
  EXPECT_GT(deadlines[0], 10);
  EXPECT_LE(deadlines[0], 60);
  EXPECT_GT(deadlines[1], 1e6);
}

TEST(GenerateCommand, DeadlineThatPassesEndsTheCall) {
  FakeScript script = HelloWorld();
  script.hang_until_cancelled = true;
  const FakeService server(script);
  const ClientRun run = Generate(server, {"--prompt", "a", "--timeout", "0.2"});
  EXPECT_EQ(run.code, ClientExitCode::kCancelled);
  EXPECT_THAT(run.err, StartsWith("sentencekv: DEADLINE_EXCEEDED: "));
}

TEST(GenerateCommand, InterruptCancelsAndKeepsTheText) {
  Interrupt interrupt;
  FakeScript script = HelloWorld();
  script.messages.pop_back();
  script.hang_until_cancelled = true;
  script.on_written = [&](const v1::GenerateRequest&) { interrupt.Trigger(); };
  const FakeService server(script);
  const ClientRun run =
      Generate(server, {"--prompt", "a", "--request-id", "r1"}, "", &interrupt);
  EXPECT_EQ(run.code, ClientExitCode::kCancelled);
  EXPECT_THAT(run.err, StartsWith("sentencekv: CANCELLED: "));
  EXPECT_EQ(server.generate_requests()[0].request_id(), "r1");
  EXPECT_FALSE(interrupt.Trigger()) << "an action outlived its call";
}

TEST(GenerateCommand, EveryOptionReachesItsField) {
  const FakeService server(HelloWorld());
  const ClientRun run = Generate(server, {"--prompt",
                                          "a",
                                          "--model",
                                          "m",
                                          "--no-bos",
                                          "--temperature",
                                          "0.5",
                                          "--top-p",
                                          "0.25",
                                          "--top-k",
                                          "7",
                                          "--min-p",
                                          "0.125",
                                          "--repetition-penalty",
                                          "1.5",
                                          "--frequency-penalty",
                                          "-0.5",
                                          "--presence-penalty",
                                          "2",
                                          "--seed",
                                          "18446744073709551615",
                                          "--logit-bias",
                                          "3=-1.5",
                                          "--logit-bias",
                                          "4=2",
                                          "--max-tokens",
                                          "9",
                                          "--min-tokens",
                                          "2",
                                          "--stop",
                                          "one",
                                          "--stop",
                                          "two words",
                                          "--stop-id",
                                          "5",
                                          "--stop-id",
                                          "6",
                                          "--ignore-eos",
                                          "--include-stop",
                                          "--logprobs",
                                          "3",
                                          "--prompt-logprobs",
                                          "--echo",
                                          "--render-special",
                                          "--kv-policy",
                                          "full",
                                          "--kv-budget",
                                          "512",
                                          "--kv-semantic-factor",
                                          "2.5",
                                          "--kv-index-kind",
                                          "sign",
                                          "--kv-prior",
                                          "false",
                                          "--kv-head-budgets",
                                          "false",
                                          "--kv-prior-half-life",
                                          "7",
                                          "--kv-query-blend",
                                          "0.5",
                                          "--kv-sink",
                                          "4",
                                          "--kv-recent",
                                          "5",
                                          "--kv-dense",
                                          "6",
                                          "--kv-reuse-bonus",
                                          "1.5",
                                          "--bypass-prefix-cache",
                                          "--cache-salt",
                                          "s"});
  ASSERT_EQ(run.code, ClientExitCode::kOk) << run.err;
  const v1::GenerateRequest request = server.generate_requests()[0];
  EXPECT_EQ(request.model(), "m");
  EXPECT_TRUE(request.has_add_bos());
  EXPECT_FALSE(request.add_bos());
  const v1::SamplingParams& sampling = request.sampling();
  EXPECT_EQ(sampling.temperature(), 0.5f);
  EXPECT_EQ(sampling.top_p(), 0.25f);
  EXPECT_EQ(sampling.top_k(), 7);
  EXPECT_EQ(sampling.min_p(), 0.125f);
  EXPECT_EQ(sampling.repetition_penalty(), 1.5f);
  EXPECT_EQ(sampling.frequency_penalty(), -0.5f);
  EXPECT_EQ(sampling.presence_penalty(), 2.0f);
  EXPECT_EQ(sampling.seed(), UINT64_MAX);
  ASSERT_EQ(sampling.logit_bias().size(), 2u);
  EXPECT_EQ(sampling.logit_bias().at(3), -1.5f);
  EXPECT_EQ(sampling.logit_bias().at(4), 2.0f);
  const v1::StopParams& stop = request.stop();
  EXPECT_EQ(stop.max_tokens(), 9);
  EXPECT_EQ(stop.min_tokens(), 2);
  EXPECT_THAT(stop.stop_strings(), ElementsAre("one", "two words"));
  EXPECT_THAT(stop.stop_token_ids(), ElementsAre(5, 6));
  EXPECT_TRUE(stop.ignore_eos());
  EXPECT_TRUE(stop.include_stop_string());
  EXPECT_EQ(request.output().logprobs(), 3);
  EXPECT_TRUE(request.output().prompt_logprobs());
  EXPECT_TRUE(request.output().echo());
  EXPECT_TRUE(request.output().render_special());
  EXPECT_EQ(request.kv().policy(), "full");
  EXPECT_EQ(request.kv().token_budget(), 512);
  EXPECT_EQ(request.kv().semantic_factor(), 2.5);
  EXPECT_EQ(request.kv().index_kind(), "sign");
  EXPECT_TRUE(request.kv().has_prior());
  EXPECT_FALSE(request.kv().prior());
  EXPECT_TRUE(request.kv().has_head_budgets());
  EXPECT_FALSE(request.kv().head_budgets());
  EXPECT_EQ(request.kv().prior_half_life(), 7);
  EXPECT_EQ(request.kv().query_blend(), 0.5);
  EXPECT_EQ(request.kv().sink_tokens(), 4);
  EXPECT_EQ(request.kv().recent_tokens(), 5);
  EXPECT_EQ(request.kv().dense_tokens(), 6);
  EXPECT_EQ(request.kv().reuse_bonus(), 1.5);
  EXPECT_TRUE(request.kv().bypass_prefix_cache());
  EXPECT_EQ(request.kv().cache_salt(), "s");
}

TEST(GenerateCommand, FlagsNotGivenLeaveFieldsUnset) {
  const FakeService server(HelloWorld());
  Generate(server, {"--prompt", "a"});
  const v1::GenerateRequest request = server.generate_requests()[0];
  v1::GenerateRequest expected;
  expected.set_text("a");
  expected.mutable_sampling();
  expected.mutable_stop();
  expected.mutable_output();
  expected.mutable_kv();
  EXPECT_EQ(request.SerializeAsString(), expected.SerializeAsString());
}

}  // namespace
}  // namespace sentencekv
