#include <iostream>

#include "server/daemon.h"

int main(int argc, char** argv) {
  return sentencekv::RunDaemon(argc, argv, std::cout, std::cerr);
}
