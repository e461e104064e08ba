#include "server/client/command.h"

#include <ostream>

#include "nlohmann/json.hpp"

namespace sentencekv {

ClientExitCode Fail(Terminal& terminal, const grpc::Status& status) {
  terminal.err << ErrorText(status) << std::flush;
  return ExitCodeOf(status);
}

ClientExitCode FailUsage(Terminal& terminal, const absl::Status& status) {
  const auto message = status.message();
  terminal.err << UsageErrorText({message.data(), message.size()})
               << std::flush;
  return ClientExitCode::kUsage;
}

void PrintJson(Terminal& terminal, const nlohmann::json& json) {
  terminal.out << json.dump(-1, ' ', false,
                            nlohmann::json::error_handler_t::replace)
               << '\n'
               << std::flush;
}

}  // namespace sentencekv
