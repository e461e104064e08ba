// A channel to one server, and the contexts of calls on it.
#pragma once

#include <memory>
#include <string>

#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "sentencekv/v1/sentencekv.grpc.pb.h"

namespace CLI {
class App;
}  // namespace CLI

namespace sentencekv {

// Flags of every sub-command.
struct ConnectionFlags {
  std::string server = "127.0.0.1:50051";
  double timeout_seconds = 0;  // 0: none

  ConnectionFlags();  // takes the server from $SENTENCEKV_SERVER
  void AddTo(CLI::App& app);
};

// Thread-safe; connects with the first call.
class ServerConnection {
 public:
  explicit ServerConnection(const ConnectionFlags& flags);

  v1::SentenceKv::StubInterface& stub() { return *stub_; }
  grpc::health::v1::Health::StubInterface& health() { return *health_; }
  // Waits, and tries again, until the connection stands; the next call reports
  // what is wrong when it does not within 10 seconds. For a measurement whose
  // streams must all begin.
  void AwaitConnected();
  // With the deadline that --timeout asks for, counted from now.
  std::unique_ptr<grpc::ClientContext> NewContext() const;

 private:
  const ConnectionFlags flags_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::SentenceKv::StubInterface> stub_;
  std::unique_ptr<grpc::health::v1::Health::StubInterface> health_;
};

}  // namespace sentencekv
