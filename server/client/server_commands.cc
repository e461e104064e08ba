// sentencekv models, stats, cancel, reset-cache and health: what is asked of
// the server itself.
#include <chrono>
#include <ostream>
#include <thread>

#include "CLI/CLI.hpp"
#include "server/client/command.h"
#include "server/client/message_printer.h"

namespace sentencekv {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

// A call without arguments whose answer is printed field by field.
template <typename Request, typename Response>
class ShowCommand final : public Command {
 public:
  using Method = grpc::Status (v1::SentenceKv::StubInterface::*)(
      grpc::ClientContext*, const Request&, Response*);

  ShowCommand(std::string name, std::string description, Method method)
      : name_(std::move(name)),
        description_(std::move(description)),
        method_(method) {}

  std::string name() const override { return name_; }
  std::string description() const override { return description_; }
  void AddFlags(CLI::App& app) override {
    app.add_flag("--json", json_, "One JSON object");
  }

  ClientExitCode Run(Session& session) override {
    Response response;
    const auto context = session.server.NewContext();
    const grpc::Status status =
        (session.server.stub().*method_)(context.get(), Request(), &response);
    if (!status.ok()) return Fail(session.terminal, status);
    if (json_) {
      PrintJson(session.terminal, FlatMessageToJson(response));
    } else {
      PrintFlatMessage(session.terminal, response);
    }
    return ClientExitCode::kOk;
  }

 private:
  const std::string name_;
  const std::string description_;
  const Method method_;
  bool json_ = false;
};

class CancelCommand final : public Command {
 public:
  std::string name() const override { return "cancel"; }
  std::string description() const override { return "End a live request"; }
  void AddFlags(CLI::App& app) override {
    app.add_option("request_id", request_id_, "Id of the request")->required();
  }

  ClientExitCode Run(Session& session) override {
    v1::CancelRequest request;
    request.set_request_id(request_id_);
    v1::CancelResponse response;
    const auto context = session.server.NewContext();
    const grpc::Status status =
        session.server.stub().Cancel(context.get(), request, &response);
    return status.ok() ? ClientExitCode::kOk : Fail(session.terminal, status);
  }

 private:
  std::string request_id_;
};

class HealthCommand final : public Command {
 public:
  std::string name() const override { return "health"; }
  std::string description() const override {
    return "Exit with 0 when the server is serving";
  }
  void AddFlags(CLI::App& app) override {
    app.add_option("service", service_,
                   "Service to ask about; default: the server as a whole");
    app.add_option("--wait", wait_seconds_,
                   "Go on asking for this many seconds")
        ->check(CLI::Range(0.0, 1e6));
  }

  ClientExitCode Run(Session& session) override {
    using Clock = std::chrono::steady_clock;
    const auto give_up =
        Clock::now() + std::chrono::duration_cast<Clock::duration>(
                           std::chrono::duration<double>(wait_seconds_));
    for (;;) {
      const grpc::Status status = Ask(session);
      if (status.ok()) {
        session.terminal.out << "SERVING" << std::endl;
        return ClientExitCode::kOk;
      }
      if (Clock::now() >= give_up) return Fail(session.terminal, status);
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }

 private:
  // OK only for SERVING.
  grpc::Status Ask(Session& session) const {
    HealthCheckRequest request;
    request.set_service(service_);
    HealthCheckResponse response;
    const auto context = session.server.NewContext();
    if (session.connection.timeout_seconds == 0) {
      // A health check that hangs is a failed one.
      context->set_deadline(std::chrono::system_clock::now() +
                            std::chrono::seconds(5));
    }
    grpc::Status status =
        session.server.health().Check(context.get(), request, &response);
    if (status.ok() && response.status() != HealthCheckResponse::SERVING) {
      status = grpc::Status(
          grpc::StatusCode::UNAVAILABLE,
          "the server says " +
              HealthCheckResponse::ServingStatus_Name(response.status()));
    }
    return status;
  }

  std::string service_;
  double wait_seconds_ = 0;
};

}  // namespace

std::unique_ptr<Command> MakeModelsCommand() {
  return std::make_unique<
      ShowCommand<v1::GetModelRequest, v1::GetModelResponse>>(
      "models", "Show the model that is served",
      &v1::SentenceKv::StubInterface::GetModel);
}
std::unique_ptr<Command> MakeStatsCommand() {
  return std::make_unique<
      ShowCommand<v1::GetStatsRequest, v1::GetStatsResponse>>(
      "stats", "Show load and counters",
      &v1::SentenceKv::StubInterface::GetStats);
}
std::unique_ptr<Command> MakeCancelCommand() {
  return std::make_unique<CancelCommand>();
}
std::unique_ptr<Command> MakeResetCacheCommand() {
  return std::make_unique<
      ShowCommand<v1::ResetCacheRequest, v1::ResetCacheResponse>>(
      "reset-cache", "Forget the cached prefixes that no request uses",
      &v1::SentenceKv::StubInterface::ResetCache);
}
std::unique_ptr<Command> MakeHealthCommand() {
  return std::make_unique<HealthCommand>();
}

}  // namespace sentencekv
