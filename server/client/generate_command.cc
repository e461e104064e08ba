// sentencekv generate: one prompt, one answer, streamed or as JSON.
#include <ostream>

#include "CLI/CLI.hpp"
#include "server/client/answer.h"
#include "server/client/command.h"
#include "server/client/prompt_flags.h"
#include "server/client/request_flags.h"
#include "server/client/sentence_view.h"

namespace sentencekv {
namespace {

class GenerateCommand final : public Command {
 public:
  std::string name() const override { return "generate"; }
  std::string description() const override {
    return "Stream the answer to one prompt";
  }
  void AddFlags(CLI::App& app) override;
  ClientExitCode Run(Session& session) override;

 private:
  absl::Status FillRequest(std::istream& in, v1::GenerateRequest* request);

  void AskForTrace(v1::GenerateRequest* request) const;

  PromptFlags prompt_;
  RequestFlags flags_;
  std::optional<std::string> request_id_;
  bool json_ = false;
  bool stats_ = false;
  int32_t show_sentences_ = 0;  // sources of each sentence; 0: none shown
};

void GenerateCommand::AddFlags(CLI::App& app) {
  prompt_.AddTo(app, /*with_ids=*/true);
  flags_.AddTo(app);
  flags_.AddOutputTo(app);
  app.add_option("--request-id", request_id_,
                 "Id of the request, for `sentencekv cancel` and the logs");
  app.add_flag("--json", json_, "One JSON object at the end, no streaming")
      ->group("Output");
  app.add_flag("--show-sentences{3}", show_sentences_,
               "Under the answer, the sentences that each of its sentences was "
               "read from, at most N (3); policy sentence unless told")
      ->type_name("[=N]")
      ->group("Output");
  app.add_flag("--stats", stats_,
               "Counts and rates on standard error at the end")
      ->group("Output");
}

// A step that reads the whole context chooses no sentences to show.
void GenerateCommand::AskForTrace(v1::GenerateRequest* request) const {
  request->mutable_output()->set_sentence_trace(show_sentences_);
  v1::KvParams* kv = request->mutable_kv();
  if (!kv->has_policy()) kv->set_policy("sentence");
  if (kv->policy() == "sentence" && !kv->has_dense_tokens()) {
    kv->set_dense_tokens(0);
  }
}

absl::Status GenerateCommand::FillRequest(std::istream& in,
                                          v1::GenerateRequest* request) {
  if (request_id_.has_value()) request->set_request_id(*request_id_);
  absl::Status status = prompt_.Fill(in, request);
  if (status.ok()) status = flags_.Fill(request);
  if (show_sentences_ != 0) AskForTrace(request);
  return status;
}

ClientExitCode GenerateCommand::Run(Session& session) {
  Terminal& terminal = session.terminal;
  v1::GenerateRequest request;
  const absl::Status filled = FillRequest(terminal.in, &request);
  if (!filled.ok()) return FailUsage(terminal, filled);

  const auto context = session.server.NewContext();
  Answer answer;
  {
    const Interrupt::Scope on_interrupt(session.interrupt,
                                        [&] { context->TryCancel(); });
    answer = ReadAnswer(session.server.stub(), *context, request,
                        [&](std::string_view text) {
                          if (!json_) terminal.out << text << std::flush;
                        });
  }
  // A request that was accepted has a result, however it ended.
  const bool accepted = answer.status.ok() || !answer.request_id.empty();
  if (accepted && json_) PrintJson(terminal, AnswerToJson(answer));
  if (accepted && !json_) terminal.out << std::endl;
  if (!json_ && !answer.reads.empty()) {
    terminal.out << "\n"
                 << RenderReads(answer.reads, terminal.style) << std::flush;
  }
  if (accepted && stats_) terminal.err << AnswerSummary(answer) << std::endl;
  return answer.status.ok() ? ClientExitCode::kOk
                            : Fail(terminal, answer.status);
}

}  // namespace

std::unique_ptr<Command> MakeGenerateCommand() {
  return std::make_unique<GenerateCommand>();
}

}  // namespace sentencekv
