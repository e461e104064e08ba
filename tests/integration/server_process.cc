#include "tests/integration/server_process.h"

#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <thread>

#include "kernels/check.h"
#include "tests/support/test_files.h"

namespace sentencekv {
namespace {

constexpr std::chrono::seconds kStartLimit(120);
constexpr std::chrono::seconds kStatsLimit(60);

// The value of a line "NAME=VALUE".
int PortOf(const std::string& text, const std::string& name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(name + "=", 0) == 0) {
      return std::atoi(line.c_str() + name.size() + 1);
    }
  }
  return 0;
}

}  // namespace

ServerProcess::ServerProcess(const std::string& model,
                             const std::vector<std::string>& flags,
                             const std::string& program)
    : folder_(MakeTempDir()) {
  const std::string port_file = folder_ + "/ports";
  std::vector<std::string> argv = {
      program,       "--model",     model,
      "--listen",    "127.0.0.1:0", "--metrics_listen",
      "127.0.0.1:0", "--port_file", port_file};
  argv.insert(argv.end(), flags.begin(), flags.end());
  process_ = std::make_unique<ChildProcess>(argv, "", folder_ + "/out",
                                            folder_ + "/log");
  const auto give_up = std::chrono::steady_clock::now() + kStartLimit;
  std::string ports;
  while ((ports = ReadWholeFile(port_file)).empty()) {
    if (!process_->Runs() || std::chrono::steady_clock::now() > give_up) {
      std::fprintf(stderr, "the server did not start:\n%s", log().c_str());
      std::abort();
    }
    // Nothing else tells when another process has written a file.
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  address_ = "127.0.0.1:" + std::to_string(PortOf(ports, "grpc_port"));
  metrics_port_ = PortOf(ports, "metrics_port");
  connection_ = Connect();
}

std::string ServerProcess::log() const {
  return ReadWholeFile(folder_ + "/out") + ReadWholeFile(folder_ + "/log");
}

std::unique_ptr<ServerConnection> ServerProcess::Connect(
    double timeout_seconds) const {
  ConnectionFlags flags;
  flags.server = address_;
  flags.timeout_seconds = timeout_seconds;
  auto connection = std::make_unique<ServerConnection>(flags);
  connection->AwaitConnected();
  return connection;
}

v1::GetStatsResponse ServerProcess::Stats() {
  v1::GetStatsResponse response;
  const auto context = connection_->NewContext();
  const grpc::Status status = connection_->stub().GetStats(
      context.get(), v1::GetStatsRequest(), &response);
  if (!status.ok()) {
    std::fprintf(stderr, "GetStats failed: %s\n%s",
                 status.error_message().c_str(), log().c_str());
    std::abort();
  }
  return response;
}

v1::GetStatsResponse ServerProcess::AwaitIdle() {
  return AwaitStats([](const v1::GetStatsResponse& stats) {
    return stats.running_requests() == 0 && stats.waiting_requests() == 0;
  });
}

SteadyTime ServerProcess::GiveUpTime() {
  return std::chrono::steady_clock::now() + kStatsLimit;
}

void ServerProcess::CheckNotPast(SteadyTime give_up,
                                 const v1::GetStatsResponse& stats) {
  if (std::chrono::steady_clock::now() < give_up) return;
  std::fprintf(stderr, "waited too long; the last stats:\n%s",
               stats.DebugString().c_str());
  std::abort();
}

ProgramResult ServerProcess::Client(const std::string& command,
                                    std::vector<std::string> arguments,
                                    const std::string& input) const {
  arguments.insert(arguments.begin(),
                   {SENTENCEKV_CLIENT_BINARY, command, "--server", address_});
  return RunProgram(arguments, input);
}

int ServerProcess::Stop() {
  process_->Signal(SIGTERM);
  return process_->Wait();
}

v1::GenerateRequest GreedyRequest(const std::vector<int32_t>& prompt,
                                  int32_t max_tokens) {
  v1::GenerateRequest request;
  for (const int32_t id : prompt) request.mutable_token_ids()->add_ids(id);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stop()->set_max_tokens(max_tokens);
  request.mutable_stop()->set_ignore_eos(true);
  return request;
}

}  // namespace sentencekv
