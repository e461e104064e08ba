// The command-line client `sentencekv`.
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "server/client/command_line.h"

namespace {

// Colour on a terminal only, and not where NO_COLOR (no-color.org) is set.
sentencekv::ViewStyle StyleOfOutput() {
  sentencekv::ViewStyle style;
  if (isatty(STDOUT_FILENO) == 0) return style;
  const char* no_colour = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  style.colour = (no_colour == nullptr || *no_colour == '\0') &&
                 terminal != nullptr && std::string_view(terminal) != "dumb";
  winsize size = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    style.width = size.ws_col;
  }
  return style;
}

}  // namespace

int main(int argc, char** argv) {
  // Lives until the process ends: the watching thread does too.
  static sentencekv::Interrupt interrupt;
  sentencekv::WatchInterruptSignal(interrupt);
  sentencekv::Terminal terminal{std::cin, std::cout, std::cerr,
                                isatty(STDIN_FILENO) != 0, StyleOfOutput()};
  return static_cast<int>(sentencekv::RunClient(
      std::vector<std::string>(argv + 1, argv + argc), terminal, interrupt));
}
