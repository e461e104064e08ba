#include "server/client/server_connection.h"

#include <chrono>
#include <cstdlib>

#include "CLI/CLI.hpp"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "kernels/version.h"

namespace sentencekv {

ConnectionFlags::ConnectionFlags() {
  if (const char* value = std::getenv("SENTENCEKV_SERVER")) server = value;
}

void ConnectionFlags::AddTo(CLI::App& app) {
  app.add_option("--server", server,
                 "HOST:PORT of the server; default: $SENTENCEKV_SERVER, else "
                 "127.0.0.1:50051")
      ->group("Connection");
  app.add_option("--timeout", timeout_seconds,
                 "Seconds until a call is given up, here and in the server; "
                 "0: never")
      ->check(CLI::Range(0.0, 1e9))
      ->group("Connection");
}

namespace {

// A server that drains, or a first connection that failed, is worth a few more
// attempts within two seconds. gRPC itself repeats a call only when nothing of
// the answer has come.
constexpr char kRetries[] = R"({"methodConfig": [{
  "name": [{}],
  "retryPolicy": {
    "maxAttempts": 4,
    "initialBackoff": "0.2s",
    "backoffMultiplier": 2,
    "maxBackoff": "1s",
    "retryableStatusCodes": ["UNAVAILABLE"]
  }
}]})";

}  // namespace

ServerConnection::ServerConnection(const ConnectionFlags& flags)
    : flags_(flags) {
  grpc::ChannelArguments arguments;
  // Answers with prompt log-probabilities are larger than gRPC's 4 MB; what a
  // server accepts is its own affair.
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetUserAgentPrefix(std::string("sentencekv/") + kVersion);
  // A web proxy of the environment does not forward gRPC.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Each connection object is one TCP connection, as separate clients have.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetServiceConfigJSON(kRetries);
  // While a server starts, look again soon (defaults: 1 s growing to 2 min).
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  channel_ = grpc::CreateCustomChannel(
      flags_.server, grpc::InsecureChannelCredentials(), arguments);
  stub_ = v1::SentenceKv::NewStub(channel_);
  health_ = grpc::health::v1::Health::NewStub(channel_);
}

void ServerConnection::AwaitConnected() {
  channel_->WaitForConnected(std::chrono::system_clock::now() +
                             std::chrono::seconds(10));
}

std::unique_ptr<grpc::ClientContext> ServerConnection::NewContext() const {
  auto context = std::make_unique<grpc::ClientContext>();
  if (flags_.timeout_seconds > 0) {
    context->set_deadline(std::chrono::system_clock::now() +
                          std::chrono::microseconds(static_cast<int64_t>(
                              flags_.timeout_seconds * 1e6)));
  }
  return context;
}

}  // namespace sentencekv
