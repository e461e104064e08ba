// A program started by a test.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace sentencekv {

// Not thread-safe. Kills the program, if it runs, when destroyed.
class ChildProcess {
 public:
  // Starts argv[0]. Standard input comes from the file `input` ("" is empty),
  // output and errors go to the files named. Aborts when that is impossible.
  ChildProcess(const std::vector<std::string>& argv, const std::string& input,
               const std::string& output, const std::string& error);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  // False when it has ended.
  bool Runs();
  void Signal(int number);
  // Waits for the end. The exit status, or 128 plus the signal's number.
  int Wait();

 private:
  pid_t pid_ = -1;
  bool ended_ = false;
  int status_ = 0;  // once ended_
};

struct ProgramResult {
  int status = 0;
  std::string out;
  std::string err;
};

// Runs a program to its end with `input` as its standard input.
ProgramResult RunProgram(const std::vector<std::string>& argv,
                         const std::string& input = "");

// Whole contents; "" when there is no such file.
std::string ReadWholeFile(const std::string& path);

}  // namespace sentencekv
