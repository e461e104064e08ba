#include "tests/integration/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

#include "kernels/check.h"
#include "tests/support/test_files.h"

namespace sentencekv {
namespace {

// Between fork and exec: only calls that are safe there.
void Redirect(const char* path, int flags, int descriptor) {
  const int file = open(path, flags, 0600);
  if (file < 0 || dup2(file, descriptor) < 0) _exit(127);
}

int ExitStatus(int wait_status) {
  return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status)
                                  : WEXITSTATUS(wait_status);
}

}  // namespace

ChildProcess::ChildProcess(const std::vector<std::string>& argv,
                           const std::string& input, const std::string& output,
                           const std::string& error) {
  std::vector<char*> pointers;
  for (const std::string& argument : argv) {
    pointers.push_back(const_cast<char*>(argument.c_str()));
  }
  pointers.push_back(nullptr);
  const char* input_path = input.empty() ? "/dev/null" : input.c_str();
  constexpr int kWrite = O_WRONLY | O_CREAT | O_TRUNC;
  pid_ = fork();
  SKV_CHECK(pid_ >= 0);
  if (pid_ == 0) {
    Redirect(input_path, O_RDONLY, STDIN_FILENO);
    Redirect(output.c_str(), kWrite, STDOUT_FILENO);
    Redirect(error.c_str(), kWrite, STDERR_FILENO);
    execv(pointers[0], pointers.data());
    _exit(127);
  }
}

ChildProcess::~ChildProcess() {
  if (!Runs()) return;
  Signal(SIGKILL);
  Wait();
}

bool ChildProcess::Runs() {
  if (ended_) return false;
  int status = 0;
  const pid_t found = waitpid(pid_, &status, WNOHANG);
  SKV_CHECK(found >= 0);
  if (found == 0) return true;
  ended_ = true;
  status_ = ExitStatus(status);
  return false;
}

void ChildProcess::Signal(int number) {
  // A process that has not been waited for keeps its id.
  if (!ended_) kill(pid_, number);
}

int ChildProcess::Wait() {
  if (!ended_) {
    int status = 0;
    SKV_CHECK(waitpid(pid_, &status, 0) == pid_);
    ended_ = true;
    status_ = ExitStatus(status);
  }
  return status_;
}

ProgramResult RunProgram(const std::vector<std::string>& argv,
                         const std::string& input) {
  const std::string folder = MakeTempDir();
  const std::string input_path = folder + "/in";
  std::ofstream(input_path, std::ios::binary) << input;
  ChildProcess process(argv, input_path, folder + "/out", folder + "/err");
  ProgramResult result;
  result.status = process.Wait();
  result.out = ReadWholeFile(folder + "/out");
  result.err = ReadWholeFile(folder + "/err");
  return result;
}

std::string ReadWholeFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace sentencekv
