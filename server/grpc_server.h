// The gRPC server with its limits, health service and reflection.
#pragma once

#include <grpcpp/server.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/server_config.h"

namespace sentencekv {

// A service and the name that its health is asked under.
struct NamedService {
  std::string name;
  grpc::Service* service = nullptr;  // borrowed
};

struct GrpcServerOptions {
  ListenAddress listen;
  GrpcLimits limits;
  bool reflection = true;
};

// Listens from Start to Shutdown. Health (grpc.health.v1, Check and Watch) is
// SERVING for "" and every service name until SetNotServing.
class GrpcServer {
 public:
  // kUnavailable when the address is in use or cannot be listened on.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(
      const GrpcServerOptions& options,
      const std::vector<NamedService>& services);
  ~GrpcServer();
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;

  // The port that is listened on; 0 for a Unix socket.
  int port() const { return port_; }

  // Tells health clients to go elsewhere; for good. Calls are still answered.
  void SetNotServing();

  // Takes no more calls, gives those that run `grace` to end, then cancels
  // them, and returns when none is left. Idempotent.
  void Shutdown(absl::Duration grace);

 private:
  GrpcServer(std::unique_ptr<grpc::Server> server, int port);

  std::unique_ptr<grpc::Server> server_;
  int port_;
};

}  // namespace sentencekv
