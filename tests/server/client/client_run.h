// Runs the client's whole command line in this process.
#pragma once

#include <sstream>
#include <string>
#include <vector>

#include "server/client/command_line.h"

namespace sentencekv {

struct ClientRun {
  ClientExitCode code = ClientExitCode::kFailed;
  std::string out;
  std::string err;
};

// `input`: what standard input holds.
inline ClientRun RunClientWith(std::vector<std::string> arguments,
                               const std::string& input = "",
                               bool interactive = false,
                               Interrupt* interrupt = nullptr) {
  std::istringstream in(input);
  std::ostringstream out;
  std::ostringstream err;
  Terminal terminal{in, out, err, interactive};
  Interrupt own;
  ClientRun run;
  run.code = RunClient(std::move(arguments), terminal,
                       interrupt != nullptr ? *interrupt : own);
  run.out = out.str();
  run.err = err.str();
  return run;
}

}  // namespace sentencekv
