// sentencekv tokenize and detokenize.
#include <ostream>

#include "CLI/CLI.hpp"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "nlohmann/json.hpp"
#include "server/client/command.h"
#include "server/client/prompt_flags.h"

namespace sentencekv {
namespace {

class TokenizeCommand final : public Command {
 public:
  std::string name() const override { return "tokenize"; }
  std::string description() const override {
    return "Print the token ids of a text or chat";
  }

  void AddFlags(CLI::App& app) override {
    prompt_.AddTo(app, /*with_ids=*/false);
    app.add_option("--model", model_, "Name as `sentencekv models` shows it");
    app.add_flag("--pieces", pieces_, "One line for each token, with its text");
    app.add_flag("--json", json_, "One JSON object");
  }

  ClientExitCode Run(Session& session) override {
    Terminal& terminal = session.terminal;
    v1::TokenizeRequest request;
    const absl::Status filled = prompt_.Fill(terminal.in, &request);
    if (!filled.ok()) return FailUsage(terminal, filled);
    if (model_.has_value()) request.set_model(*model_);
    request.set_with_bytes(pieces_ || json_);
    v1::TokenizeResponse response;
    const auto context = session.server.NewContext();
    const grpc::Status status =
        session.server.stub().Tokenize(context.get(), request, &response);
    if (!status.ok()) return Fail(terminal, status);
    Print(terminal, response);
    return ClientExitCode::kOk;
  }

 private:
  void Print(Terminal& terminal, const v1::TokenizeResponse& response) const {
    if (json_) {
      PrintJson(terminal, {{"token_ids", response.token_ids()},
                           {"count", response.token_ids_size()},
                           {"pieces", response.token_bytes()}});
    } else if (pieces_) {
      for (int i = 0; i < response.token_ids_size(); ++i) {
        const std::string piece =
            i < response.token_bytes_size() ? response.token_bytes(i) : "";
        terminal.out << fmt::format(
            "{:7} {}\n", response.token_ids(i),
            nlohmann::json(piece).dump(
                -1, ' ', false, nlohmann::json::error_handler_t::replace));
      }
    } else {
      terminal.out << fmt::format("{}\n", fmt::join(response.token_ids(), ","));
    }
    terminal.out << std::flush;
  }

  PromptFlags prompt_;
  std::optional<std::string> model_;
  bool pieces_ = false;
  bool json_ = false;
};

class DetokenizeCommand final : public Command {
 public:
  std::string name() const override { return "detokenize"; }
  std::string description() const override {
    return "Print the text of token ids";
  }

  void AddFlags(CLI::App& app) override {
    app.add_option("--ids,ids", ids_, "Token ids: 1,2,3")->required();
    app.add_option("--model", model_, "Name as `sentencekv models` shows it");
    app.add_flag("--render-special", render_special_,
                 "Show control tokens in the text");
    app.add_flag("--json", json_, "One JSON object");
  }

  ClientExitCode Run(Session& session) override {
    Terminal& terminal = session.terminal;
    v1::DetokenizeRequest request;
    const absl::Status parsed =
        ParseTokenIds(ids_, request.mutable_token_ids());
    if (!parsed.ok()) return FailUsage(terminal, parsed);
    if (model_.has_value()) request.set_model(*model_);
    if (render_special_) request.set_render_special(true);
    v1::DetokenizeResponse response;
    const auto context = session.server.NewContext();
    const grpc::Status status =
        session.server.stub().Detokenize(context.get(), request, &response);
    if (!status.ok()) return Fail(terminal, status);
    if (json_) {
      PrintJson(terminal, {{"text", response.text()}});
    } else {
      terminal.out << response.text() << std::endl;
    }
    return ClientExitCode::kOk;
  }

 private:
  std::string ids_;
  std::optional<std::string> model_;
  bool render_special_ = false;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeTokenizeCommand() {
  return std::make_unique<TokenizeCommand>();
}
std::unique_ptr<Command> MakeDetokenizeCommand() {
  return std::make_unique<DetokenizeCommand>();
}

}  // namespace sentencekv
