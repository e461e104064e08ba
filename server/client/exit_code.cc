#include "server/client/exit_code.h"

#include "fmt/format.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace sentencekv {
namespace {

// One line for a detail that people can act on; nothing for other kinds.
std::string DetailText(const google::protobuf::Any& detail) {
  std::string text;
  google::rpc::BadRequest bad_request;
  google::rpc::RetryInfo retry;
  if (detail.UnpackTo(&bad_request)) {
    for (const auto& violation : bad_request.field_violations()) {
      text +=
          fmt::format("  {}: {}\n", violation.field(), violation.description());
    }
  } else if (detail.UnpackTo(&retry)) {
    const double seconds =
        retry.retry_delay().seconds() + retry.retry_delay().nanos() * 1e-9;
    text = fmt::format("  retry after {:.3g} s\n", seconds);
  }
  return text;
}

}  // namespace

ClientExitCode ExitCodeOf(const grpc::Status& status) {
  switch (status.error_code()) {
    case grpc::StatusCode::OK:
      return ClientExitCode::kOk;
    case grpc::StatusCode::UNAVAILABLE:
      return ClientExitCode::kUnreachable;
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::NOT_FOUND:
    case grpc::StatusCode::ALREADY_EXISTS:
    case grpc::StatusCode::FAILED_PRECONDITION:
    case grpc::StatusCode::OUT_OF_RANGE:
    case grpc::StatusCode::UNIMPLEMENTED:
    case grpc::StatusCode::UNAUTHENTICATED:
    case grpc::StatusCode::PERMISSION_DENIED:
      return ClientExitCode::kInvalid;
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return ClientExitCode::kRefused;
    case grpc::StatusCode::CANCELLED:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return ClientExitCode::kCancelled;
    default:
      return ClientExitCode::kFailed;
  }
}

std::string ErrorText(const grpc::Status& status) {
  std::string text = fmt::format(
      "sentencekv: {}: {}\n", Name(status.error_code()),
      status.error_message().empty() ? "no message" : status.error_message());
  google::rpc::Status details;
  if (details.ParseFromString(status.error_details())) {
    for (const auto& detail : details.details()) text += DetailText(detail);
  }
  return text;
}

std::string UsageErrorText(std::string_view message) {
  return fmt::format("sentencekv: USAGE: {}\n", message);
}

}  // namespace sentencekv
