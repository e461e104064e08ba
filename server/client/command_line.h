// The whole client: arguments in, exit code out.
#pragma once

#include <string>
#include <vector>

#include "server/client/exit_code.h"
#include "server/client/interrupt.h"
#include "server/client/terminal.h"

namespace sentencekv {

// `arguments`: those after the program's name. Never throws.
ClientExitCode RunClient(std::vector<std::string> arguments, Terminal& terminal,
                         Interrupt& interrupt);

}  // namespace sentencekv
