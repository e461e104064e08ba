// The real daemon, as a process of its own on free ports.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "sentencekv/v1/sentencekv.pb.h"
#include "server/client/answer.h"
#include "server/client/server_connection.h"
#include "tests/integration/child_process.h"

namespace sentencekv {

class ServerProcess {
 public:
  // Starts sentencekv-server with `model` and more flags, and waits until it
  // serves. Aborts with its log when it ends or takes longer than 120 s.
  // `program` is another build of it.
  explicit ServerProcess(const std::string& model,
                         const std::vector<std::string>& flags = {},
                         const std::string& program = SENTENCEKV_SERVER_BINARY);

  const std::string& address() const { return address_; }
  int metrics_port() const { return metrics_port_; }
  ChildProcess& process() { return *process_; }
  std::string log() const;
  // For calls of the test itself. Thread-safe.
  ServerConnection& connection() { return *connection_; }
  // A further connection, as another client would have. It stands when this
  // returns: a first attempt can fail on a busy machine (gRPC reads errno after
  // other calls), which says nothing about the server.
  std::unique_ptr<ServerConnection> Connect(double timeout_seconds = 0) const;

  v1::GetStatsResponse Stats();
  // Asks for the stats until `condition` holds; aborts after 60 s.
  template <typename Condition>
  v1::GetStatsResponse AwaitStats(Condition condition) {
    for (const SteadyTime give_up = GiveUpTime();;) {
      const v1::GetStatsResponse stats = Stats();
      if (condition(stats)) return stats;
      CheckNotPast(give_up, stats);
    }
  }
  // Until nothing runs and nothing waits.
  v1::GetStatsResponse AwaitIdle();

  // Runs the client `sentencekv` on this server.
  ProgramResult Client(const std::string& command,
                       std::vector<std::string> arguments,
                       const std::string& input = "") const;
  // SIGTERM, and the exit status.
  int Stop();

 private:
  static SteadyTime GiveUpTime();
  static void CheckNotPast(SteadyTime give_up,
                           const v1::GetStatsResponse& stats);

  std::string folder_;
  std::string address_;
  int metrics_port_ = 0;
  std::unique_ptr<ChildProcess> process_;
  std::unique_ptr<ServerConnection> connection_;
};

// Greedy answer of exactly `max_tokens` tokens to a prompt of token ids.
v1::GenerateRequest GreedyRequest(const std::vector<int32_t>& prompt,
                                  int32_t max_tokens);

}  // namespace sentencekv
