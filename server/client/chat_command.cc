// sentencekv chat: a conversation, streamed.
#include "CLI/CLI.hpp"
#include "server/client/chat_session.h"
#include "server/client/command.h"
#include "server/client/request_flags.h"

namespace sentencekv {
namespace {

class ChatCommand final : public Command {
 public:
  std::string name() const override { return "chat"; }
  std::string description() const override {
    return "Talk with the model; the history is kept";
  }

  void AddFlags(CLI::App& app) override {
    app.add_option("--system", system_, "System message");
    app.add_flag("--stats", stats_, "Counts and rates after each answer");
    app.add_flag("--parse-special", parse_special_,
                 "Control tokens written in the text are control tokens");
    flags_.AddTo(app);
  }

  ClientExitCode Run(Session& session) override {
    v1::GenerateRequest request;
    const absl::Status filled = flags_.Fill(&request);
    if (!filled.ok()) return FailUsage(session.terminal, filled);
    if (parse_special_) request.set_parse_special(true);
    return ChatSession(session, std::move(request), system_, stats_).Run();
  }

 private:
  RequestFlags flags_;
  std::string system_;
  bool parse_special_ = false;
  bool stats_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeChatCommand() {
  return std::make_unique<ChatCommand>();
}

}  // namespace sentencekv
