// The command-line client `sentencekv`.
#include <unistd.h>

#include <iostream>
#include <string>
#include <vector>

#include "server/client/command_line.h"

int main(int argc, char** argv) {
  // Lives until the process ends: the watching thread does too.
  static sentencekv::Interrupt interrupt;
  sentencekv::WatchInterruptSignal(interrupt);
  sentencekv::Terminal terminal{std::cin, std::cout, std::cerr,
                                isatty(STDIN_FILENO) != 0};
  return static_cast<int>(sentencekv::RunClient(
      std::vector<std::string>(argv + 1, argv + argc), terminal, interrupt));
}
