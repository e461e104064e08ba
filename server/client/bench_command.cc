// sentencekv bench: concurrent clients, latency percentiles, throughput.
#include <algorithm>
#include <ostream>

#include "CLI/CLI.hpp"
#include "server/client/bench_load.h"
#include "server/client/bench_prompts.h"
#include "server/client/bench_report.h"
#include "server/client/command.h"
#include "server/client/request_flags.h"

namespace sentencekv {
namespace {

class BenchCommand final : public Command {
 public:
  std::string name() const override { return "bench"; }
  std::string description() const override {
    return "Measure latency and throughput under load";
  }
  void AddFlags(CLI::App& app) override;
  ClientExitCode Run(Session& session) override;

 private:
  // Prompt number `index` with the flags of this run.
  v1::GenerateRequest MakeRequest(int64_t num_tokens, int64_t index) const;
  BenchLoad MakeLoad(const ConnectionFlags& connection) const;

  RequestFlags flags_;
  BenchPrompts prompts_;
  v1::GenerateRequest options_;  // of every request
  int concurrency_ = 1;
  int num_requests_ = 0;
  int num_warmup_ = 0;
  int64_t prompt_tokens_ = 128;
  double rate_ = 0;
  int64_t intruder_tokens_ = 0;
  double intrude_after_ = 5;
  bool stop_at_eos_ = false;
  bool json_ = false;
};

void BenchCommand::AddFlags(CLI::App& app) {
  app.add_option("--concurrency", concurrency_,
                 "Clients, each with a connection and one stream")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--requests", num_requests_,
                 "Requests of all clients together; default: 4 for each, or "
                 "1 beside a long prompt")
      ->check(CLI::Range(1, 100'000'000));
  app.add_option("--warmup", num_warmup_, "Requests before, not measured")
      ->check(CLI::Range(0, 1'000'000));
  app.add_option("--prompt-tokens", prompt_tokens_, "Tokens of each prompt")
      ->check(CLI::Range(int64_t{1}, int64_t{100'000'000}))
      ->capture_default_str();
  app.add_option("--rate", rate_,
                 "Requests a second, arriving at random; default: each client "
                 "sends the next at once")
      ->check(CLI::Range(0.0, 1e9));
  app.add_option("--intrude-prompt-tokens", intruder_tokens_,
                 "Send one prompt of this length beside the streams, and "
                 "report the gaps in them")
      ->check(CLI::Range(int64_t{1}, int64_t{100'000'000}));
  app.add_option("--intrude-after", intrude_after_,
                 "Seconds between the first tokens of all and that prompt")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  app.add_flag("--stop-at-eos", stop_at_eos_,
               "Answers may end before --max-tokens");
  app.add_flag("--json", json_, "One JSON object");
  flags_.AddTo(app);
}

v1::GenerateRequest BenchCommand::MakeRequest(int64_t num_tokens,
                                              int64_t index) const {
  v1::GenerateRequest request = options_;
  for (const int32_t id : prompts_.Make(num_tokens, index)) {
    request.mutable_token_ids()->add_ids(id);
  }
  return request;
}

BenchLoad BenchCommand::MakeLoad(const ConnectionFlags& connection) const {
  const bool intrudes = intruder_tokens_ > 0;
  BenchLoad load;
  load.connection = connection;
  load.concurrency = concurrency_;
  load.num_requests =
      num_requests_ > 0 ? num_requests_ : concurrency_ * (intrudes ? 1 : 4);
  load.concurrency = std::min(load.concurrency, load.num_requests);
  load.num_warmup = num_warmup_;
  load.rate_per_second = rate_;
  load.seed = flags_.seed.value_or(1);
  load.make_request = [this](int index) {
    return MakeRequest(prompt_tokens_, index);
  };
  if (intrudes) {
    load.intruder = MakeRequest(intruder_tokens_, load.num_requests);
    load.intruder->mutable_stop()->set_max_tokens(1);
    load.intrude_after_seconds = intrude_after_;
  }
  return load;
}

ClientExitCode BenchCommand::Run(Session& session) {
  Terminal& terminal = session.terminal;
  // Fixed lengths and no luck, unless asked for: runs are to be compared.
  if (!flags_.max_tokens) flags_.max_tokens = intruder_tokens_ > 0 ? 1024 : 64;
  if (!flags_.temperature) flags_.temperature = 0;
  flags_.ignore_eos = !stop_at_eos_;
  const absl::Status filled = flags_.Fill(&options_);
  if (!filled.ok()) return FailUsage(terminal, filled);
  const grpc::Status loaded = prompts_.Load(session.server);
  if (!loaded.ok()) return Fail(terminal, loaded);

  const BenchResult result =
      RunBenchLoad(MakeLoad(session.connection), session.interrupt);
  const BenchReport report = MakeBenchReport(result);
  if (json_) {
    nlohmann::json json = BenchReportToJson(report);
    json["concurrency"] = concurrency_;
    PrintJson(terminal, json);
  } else {
    terminal.out << BenchReportToText(report) << std::flush;
  }
  if (result.interrupted) return ClientExitCode::kCancelled;
  if (result.intruder.has_value() && !result.intruder->status.ok()) {
    return Fail(terminal, result.intruder->status);
  }
  if (report.failed == 0) return ClientExitCode::kOk;
  for (const Answer& answer : result.answers) {
    if (!answer.status.ok()) return Fail(terminal, answer.status);
  }
  return ClientExitCode::kFailed;
}

}  // namespace

std::unique_ptr<Command> MakeBenchCommand() {
  return std::make_unique<BenchCommand>();
}

}  // namespace sentencekv
