// sentencekv bench: percentiles, gaps beside a long prompt, the load itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nlohmann/json.hpp"
#include "server/client/bench_load.h"
#include "server/client/bench_prompts.h"
#include "server/client/bench_report.h"
#include "tests/server/client/client_run.h"
#include "tests/server/client/fake_service.h"

namespace sentencekv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

SteadyTime At(double ms) {
  return SteadyTime() + std::chrono::duration_cast<SteadyTime::duration>(
                            std::chrono::duration<double, std::milli>(ms));
}

// An answer sent at 0 whose tokens arrive at these times.
Answer AnswerWith(const std::vector<double>& arrivals_ms, double ended_ms) {
  Answer answer;
  answer.sent = At(0);
  for (const double ms : arrivals_ms) {
    answer.token_arrivals.push_back(At(ms));
    answer.token_ids.push_back(1);
  }
  answer.ended = At(ended_ms);
  return answer;
}

TEST(Percentiles, AreByNearestRank) {
  std::vector<double> values;
  for (int i = 100; i >= 1; --i) values.push_back(i);
  const Percentiles result = PercentilesOf(values);
  EXPECT_EQ(result.count, 100u);
  EXPECT_EQ(result.mean, 50.5);
  EXPECT_EQ(result.p50, 50);
  EXPECT_EQ(result.p90, 90);
  EXPECT_EQ(result.p99, 99);
  EXPECT_EQ(result.max, 100);
}

TEST(Percentiles, OfFewValues) {
  EXPECT_EQ(PercentilesOf({}).max, 0);
  const Percentiles one = PercentilesOf({7});
  EXPECT_EQ(one.p50, 7);
  EXPECT_EQ(one.p99, 7);
  const Percentiles two = PercentilesOf({3, 1});
  EXPECT_EQ(two.p50, 1);
  EXPECT_EQ(two.p90, 3);
}

TEST(BenchReport, CountsAndMeasures) {
  BenchResult result;
  result.started = At(0);
  result.ended = At(2000);
  result.answers = {AnswerWith({100, 110, 130}, 140), AnswerWith({50}, 60)};
  Answer refused = AnswerWith({}, 5);
  refused.status = grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "");
  result.answers.push_back(refused);
  const BenchReport report = MakeBenchReport(result);
  EXPECT_EQ(report.completed, 2);
  EXPECT_EQ(report.failed, 1);
  EXPECT_EQ(report.errors.at("RESOURCE_EXHAUSTED"), 1);
  EXPECT_EQ(report.generated_tokens, 4);
  EXPECT_EQ(report.ttft_ms.p50, 50);
  EXPECT_EQ(report.ttft_ms.max, 100);
  EXPECT_EQ(report.inter_token_ms.p50, 10);
  EXPECT_EQ(report.inter_token_ms.max, 20);
  EXPECT_EQ(report.total_ms.max, 140);
  EXPECT_FALSE(report.intrusion.has_value());
  const auto json = BenchReportToJson(report);
  EXPECT_EQ(json["generated_tokens_per_second"], 2.0);
  EXPECT_EQ(json["errors"]["RESOURCE_EXHAUSTED"], 1);
  EXPECT_THAT(BenchReportToText(report), HasSubstr("2 completed, 1 failed"));
}

TEST(BenchReport, GapsAreBeforeOrDuringTheLongPrompt) {
  BenchResult result;
  result.ended = At(1000);
  result.intruder = AnswerWith({400}, 410);
  result.intruder->sent = At(100);  // prefill lasts from 100 to 400
  // Gaps before: 10, 10, 20. Overlapping: 40 (begins before), 250, 60.
  // After: 5, in neither.
  result.answers = {AnswerWith({50, 60, 70, 90, 130, 380, 440, 445}, 450)};
  result.answers[0].status =
      grpc::Status(grpc::StatusCode::CANCELLED, "cut off");
  const BenchReport report = MakeBenchReport(result);
  EXPECT_EQ(report.completed, 1);
  ASSERT_TRUE(report.intrusion.has_value());
  EXPECT_EQ(report.intrusion->gaps_before.count, 3u);
  EXPECT_EQ(report.intrusion->gaps_before.p50, 10);
  EXPECT_EQ(report.intrusion->gaps_during.count, 3u);
  EXPECT_EQ(report.intrusion->gaps_during.max, 250);
  EXPECT_EQ(report.intrusion->longest_gap_at_ms, 30);
  EXPECT_EQ(report.intrusion->ratio, 25);
  EXPECT_EQ(BenchReportToJson(report)["intrusion"]["ratio"], 25.0);
  EXPECT_THAT(BenchReportToText(report), HasSubstr("ratio 25.00"));
}

TEST(BenchReport, StreamThatStallsToTheEndCounts) {
  BenchResult result;
  result.ended = At(1000);
  result.intruder = AnswerWith({400}, 410);
  result.intruder->sent = At(100);
  result.answers = {AnswerWith({80, 90, 110}, 420)};
  const BenchReport report = MakeBenchReport(result);
  EXPECT_EQ(report.intrusion->gaps_during.max, 290);
}

TEST(BenchPrompts, HaveTheExactLengthAndDiffer) {
  FakeScript script;
  for (int id = 0; id < 10; ++id) script.tokenize.add_token_ids(id);
  const FakeService server(script);
  ConnectionFlags flags;
  flags.server = server.address();
  ServerConnection connection(flags);
  BenchPrompts prompts;
  ASSERT_TRUE(prompts.Load(connection).ok());
  EXPECT_THAT(prompts.Make(3, 0), ElementsAre(0, 1, 2));
  EXPECT_THAT(prompts.Make(4, 1), ElementsAre(7, 8, 9, 0));
  EXPECT_EQ(prompts.Make(25, 3).size(), 25u);
}

TEST(BenchPrompts, EmptyTokenizationIsAnError) {
  const FakeService server{FakeScript()};
  ConnectionFlags flags;
  flags.server = server.address();
  ServerConnection connection(flags);
  EXPECT_FALSE(BenchPrompts().Load(connection).ok());
}

class BenchCommandTest : public testing::Test {
 protected:
  ClientRun Bench(const FakeService& server, std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"bench", "--server", server.address()});
    return RunClientWith(std::move(flags));
  }
  static FakeScript Script() {
    FakeScript script = HelloWorld();
    script.tokenize.add_token_ids(1);
    script.tokenize.add_token_ids(2);
    return script;
  }
};

TEST_F(BenchCommandTest, RunsEveryRequestOnce) {
  const FakeService server(Script());
  const ClientRun run =
      Bench(server, {"--concurrency", "4", "--requests", "10",
                     "--prompt-tokens", "5", "--max-tokens", "2", "--warmup",
                     "1", "--rate", "10000", "--json"});
  ASSERT_EQ(run.code, ClientExitCode::kOk) << run.err;
  const auto json = nlohmann::json::parse(run.out);
  EXPECT_EQ(json["completed"], 10);
  EXPECT_EQ(json["concurrency"], 4);
  EXPECT_EQ(json["generated_tokens"], 20);
  EXPECT_EQ(json["prompt_tokens"], 30);
  EXPECT_EQ(json["ttft_ms"]["count"], 10);
  const auto requests = server.generate_requests();
  ASSERT_EQ(requests.size(), 11u);
  for (const auto& request : requests) {
    EXPECT_EQ(request.token_ids().ids_size(), 5);
    EXPECT_EQ(request.stop().max_tokens(), 2);
    EXPECT_TRUE(request.stop().ignore_eos());
    EXPECT_EQ(request.sampling().temperature(), 0.0f);
  }
}

TEST_F(BenchCommandTest, PrintsATableWithoutJson) {
  const FakeService server(Script());
  const ClientRun run = Bench(server, {"--requests", "2"});
  EXPECT_EQ(run.code, ClientExitCode::kOk);
  EXPECT_THAT(run.out, HasSubstr("between tokens"));
}

TEST_F(BenchCommandTest, LongPromptComesOnceAndEndsTheStreams) {
  FakeScript script = Script();
  script.messages.pop_back();
  const FakeService server(script);
  const ClientRun run = Bench(server, {"--concurrency", "2", "--prompt-tokens",
                                       "3", "--intrude-prompt-tokens", "50",
                                       "--intrude-after", "0", "--json"});
  ASSERT_EQ(run.code, ClientExitCode::kOk) << run.err;
  EXPECT_TRUE(nlohmann::json::parse(run.out).contains("intrusion"));
  int long_prompts = 0;
  for (const auto& request : server.generate_requests()) {
    const bool is_long = request.token_ids().ids_size() == 50;
    long_prompts += is_long;
    EXPECT_EQ(request.stop().max_tokens(), is_long ? 1 : 1024);
  }
  EXPECT_EQ(long_prompts, 1);
}

TEST_F(BenchCommandTest, FailureOfARequestIsReportedAndGivesItsCode) {
  FakeScript script = Script();
  script.messages.clear();
  script.status = grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full");
  const FakeService server(script);
  const ClientRun run = Bench(server, {"--requests", "3", "--json"});
  EXPECT_EQ(run.code, ClientExitCode::kRefused);
  const auto json = nlohmann::json::parse(run.out);
  EXPECT_EQ(json["failed"], 3);
  EXPECT_EQ(json["errors"]["RESOURCE_EXHAUSTED"], 3);
}

TEST_F(BenchCommandTest, InterruptStopsTheLoad) {
  Interrupt interrupt;
  FakeScript script = Script();
  script.messages.pop_back();
  script.hang_until_cancelled = true;
  script.on_written = [&](const v1::GenerateRequest&) { interrupt.Trigger(); };
  const FakeService server(script);
  const ClientRun run =
      RunClientWith({"bench", "--server", server.address(), "--concurrency",
                     "3", "--requests", "1000"},
                    "", false, &interrupt);
  EXPECT_EQ(run.code, ClientExitCode::kCancelled);
  EXPECT_LE(server.generate_requests().size(), 3u);
}

}  // namespace
}  // namespace sentencekv
