// A sub-command of the client: one file each, gathered in command_line.cc.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "nlohmann/json_fwd.hpp"
#include "server/client/exit_code.h"
#include "server/client/interrupt.h"
#include "server/client/server_connection.h"
#include "server/client/terminal.h"

namespace CLI {
class App;
}  // namespace CLI

namespace sentencekv {

// What a sub-command runs with; outlives it.
struct Session {
  ServerConnection& server;
  const ConnectionFlags& connection;
  Terminal& terminal;
  Interrupt& interrupt;
};

class Command {
 public:
  virtual ~Command() = default;

  virtual std::string name() const = 0;
  virtual std::string description() const = 0;
  // Called once, before Run.
  virtual void AddFlags(CLI::App& app) = 0;
  virtual ClientExitCode Run(Session& session) = 0;
};

std::unique_ptr<Command> MakeGenerateCommand();
std::unique_ptr<Command> MakeChatCommand();
std::unique_ptr<Command> MakeTokenizeCommand();
std::unique_ptr<Command> MakeDetokenizeCommand();
std::unique_ptr<Command> MakeModelsCommand();
std::unique_ptr<Command> MakeStatsCommand();
std::unique_ptr<Command> MakeCancelCommand();
std::unique_ptr<Command> MakeResetCacheCommand();
std::unique_ptr<Command> MakeHealthCommand();
std::unique_ptr<Command> MakeBenchCommand();

// Prints the error of a call and gives the exit code for it.
ClientExitCode Fail(Terminal& terminal, const grpc::Status& status);
// The same for flags that make no request: kUsage.
ClientExitCode FailUsage(Terminal& terminal, const absl::Status& status);

// One line; bytes that are not UTF-8 become U+FFFD.
void PrintJson(Terminal& terminal, const nlohmann::json& json);

}  // namespace sentencekv
