#include "server/client/command_line.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <optional>
#include <ostream>

#include "CLI/CLI.hpp"
#include "kernels/version.h"
#include "server/client/command.h"
#include "server/client/server_connection.h"

namespace sentencekv {
namespace {

std::vector<std::unique_ptr<Command>> MakeCommands() {
  std::vector<std::unique_ptr<Command>> commands;
  commands.push_back(MakeGenerateCommand());
  commands.push_back(MakeChatCommand());
  commands.push_back(MakeTokenizeCommand());
  commands.push_back(MakeDetokenizeCommand());
  commands.push_back(MakeModelsCommand());
  commands.push_back(MakeStatsCommand());
  commands.push_back(MakeCancelCommand());
  commands.push_back(MakeResetCacheCommand());
  commands.push_back(MakeHealthCommand());
  commands.push_back(MakeBenchCommand());
  return commands;
}

// The exit code when there is nothing to run: wrong usage, --help, --version.
std::optional<ClientExitCode> Parse(CLI::App& app,
                                    std::vector<std::string> arguments,
                                    Terminal& terminal) {
  // CLI11 takes them from the back.
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::Success& success) {  // --help, --version
    app.exit(success, terminal.out, terminal.err);
    return ClientExitCode::kOk;
  } catch (const CLI::ParseError& error) {
    terminal.err << UsageErrorText(error.what()) << "  see sentencekv --help\n";
    return ClientExitCode::kUsage;
  }
  return std::nullopt;
}

ClientExitCode Run(std::vector<std::string> arguments, Terminal& terminal,
                   Interrupt& interrupt) {
  CLI::App app("Command-line client of SentenceKV Server", "sentencekv");
  app.set_version_flag("--version", kVersion);
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 done, 2 wrong usage, 3 server unreachable, 4 invalid "
      "request,\n5 refused (full), 6 cancelled or too late, 1 anything else.");
  ConnectionFlags connection;
  const auto commands = MakeCommands();
  for (const auto& command : commands) {
    CLI::App* sub = app.add_subcommand(command->name(), command->description());
    command->AddFlags(*sub);
    connection.AddTo(*sub);
  }
  const std::optional<ClientExitCode> parsed =
      Parse(app, std::move(arguments), terminal);
  if (parsed.has_value()) return *parsed;
  for (const auto& command : commands) {
    if (!app.got_subcommand(command->name())) continue;
    ServerConnection server(connection);
    Session session{server, connection, terminal, interrupt};
    return command->Run(session);
  }
  return ClientExitCode::kUsage;  // unreachable: require_subcommand(1)
}

}  // namespace

ClientExitCode RunClient(std::vector<std::string> arguments, Terminal& terminal,
                         Interrupt& interrupt) {
  // CLI11 and nlohmann::json report some errors by exceptions.
  try {
    return Run(std::move(arguments), terminal, interrupt);
  } catch (const std::exception& error) {
    terminal.err << "sentencekv: INTERNAL: " << error.what() << std::endl;
    return ClientExitCode::kFailed;
  }
}

}  // namespace sentencekv
