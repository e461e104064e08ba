#include "server/status_mapping.h"

#include <fmt/format.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "kernels/check.h"

namespace sentencekv {
namespace {

constexpr char kDomain[] = "sentencekv";
// A full queue moves on within about a step per request; a drained server is
// replaced within seconds.
constexpr int64_t kQueueRetrySeconds = 1;
constexpr int64_t kDrainRetrySeconds = 5;
// Messages travel in a header: keep them short.
constexpr size_t kViolationsInMessage = 3;

// Collects details and makes the status of them.
class StatusBuilder {
 public:
  StatusBuilder(grpc::StatusCode code, std::string message) {
    proto_.set_code(code);
    proto_.set_message(std::move(message));
  }
  StatusBuilder& Reason(const char* reason) {
    google::rpc::ErrorInfo info;
    info.set_reason(reason);
    info.set_domain(kDomain);
    return Add(info);
  }
  StatusBuilder& RetryAfter(int64_t seconds) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(seconds);
    return Add(retry);
  }
  StatusBuilder& Add(const google::protobuf::Message& detail) {
    proto_.add_details()->PackFrom(detail);
    return *this;
  }
  grpc::Status Build() const {
    return grpc::Status(static_cast<grpc::StatusCode>(proto_.code()),
                        proto_.message(), proto_.SerializeAsString());
  }

 private:
  google::rpc::Status proto_;
};

grpc::Status QueueFull() {
  google::rpc::QuotaFailure quota;
  google::rpc::QuotaFailure::Violation* violation = quota.add_violations();
  violation->set_subject("queue");
  violation->set_description("as many requests wait as --max_waiting allows");
  return StatusBuilder(grpc::StatusCode::RESOURCE_EXHAUSTED,
                       "the queue is full; retry later")
      .Reason("QUEUE_FULL")
      .RetryAfter(kQueueRetrySeconds)
      .Add(quota)
      .Build();
}

grpc::Status Draining() {
  return StatusBuilder(grpc::StatusCode::UNAVAILABLE,
                       "the server is shutting down; retry elsewhere")
      .Reason("DRAINING")
      .RetryAfter(kDrainRetrySeconds)
      .Build();
}

grpc::Status DeviceLost() {
  return StatusBuilder(grpc::StatusCode::UNAVAILABLE,
                       "the server has lost its device and restarts; retry "
                       "elsewhere")
      .Reason("DEVICE_LOST")
      .RetryAfter(kDrainRetrySeconds)
      .Build();
}

grpc::Status DeadlineExceeded() {
  return StatusBuilder(grpc::StatusCode::DEADLINE_EXCEEDED,
                       "the request's deadline has passed")
      .Reason("DEADLINE_EXCEEDED")
      .Build();
}

grpc::Status Internal() {
  return StatusBuilder(grpc::StatusCode::INTERNAL,
                       "internal error; the server's log has the details "
                       "under this request id")
      .Reason("INTERNAL")
      .Build();
}

// How a request that failed after acceptance ends.
grpc::Status Failed(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kResourceExhausted:
      return StatusBuilder(grpc::StatusCode::RESOURCE_EXHAUSTED,
                           "the request was ended for lack of resources")
          .Reason("RESOURCE_EXHAUSTED")
          .RetryAfter(kQueueRetrySeconds)
          .Build();
    case absl::StatusCode::kUnavailable:
      return Draining();
    case absl::StatusCode::kDataLoss:
      return DeviceLost();
    default:
      return Internal();
  }
}

}  // namespace

grpc::Status InvalidRequest(std::span<const FieldViolation> violations) {
  SKV_CHECK(!violations.empty());
  google::rpc::BadRequest details;
  std::string message =
      violations.size() == 1
          ? std::string("invalid request: ")
          : fmt::format("invalid request, {} fields: ", violations.size());
  for (size_t i = 0; i < violations.size(); ++i) {
    const FieldViolation& violation = violations[i];
    if (i < kViolationsInMessage) {
      message += fmt::format("{}{}: {}", i == 0 ? "" : "; ", violation.field,
                             violation.description);
    } else if (i == kViolationsInMessage) {
      message += "; ...";
    }
    if (i == kMaxReportedViolations) break;
    auto* detail = details.add_field_violations();
    detail->set_field(violation.field);
    detail->set_description(violation.description);
  }
  return StatusBuilder(grpc::StatusCode::INVALID_ARGUMENT, std::move(message))
      .Reason("INVALID_REQUEST")
      .Add(details)
      .Build();
}

grpc::Status UnknownModel(std::string_view served_name) {
  return StatusBuilder(
             grpc::StatusCode::NOT_FOUND,
             fmt::format("model: not served here; this server has \"{}\"",
                         served_name))
      .Reason("MODEL_NOT_FOUND")
      .Build();
}

grpc::Status UnknownRequest() {
  return StatusBuilder(grpc::StatusCode::NOT_FOUND,
                       "request_id: no live request has this id")
      .Reason("REQUEST_NOT_FOUND")
      .Build();
}

grpc::Status Refused(const absl::Status& status, std::string_view input_field) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument: {
      const FieldViolation violation = {std::string(input_field),
                                        std::string(status.message())};
      return InvalidRequest({&violation, 1});
    }
    case absl::StatusCode::kResourceExhausted:
      return QueueFull();
    case absl::StatusCode::kUnavailable:
      return Draining();
    case absl::StatusCode::kDeadlineExceeded:
      return DeadlineExceeded();
    case absl::StatusCode::kAlreadyExists:
      return StatusBuilder(grpc::StatusCode::ALREADY_EXISTS,
                           "request_id: a live request has this id")
          .Reason("REQUEST_ID_IN_USE")
          .Build();
    default:
      return Internal();
  }
}

grpc::Status StatusOf(const Finish& finish) {
  switch (finish.reason) {
    case FinishReason::kStop:
    case FinishReason::kLength:
      return grpc::Status::OK;
    case FinishReason::kCancelled:
      return StatusBuilder(grpc::StatusCode::CANCELLED,
                           "the request was cancelled")
          .Reason("CANCELLED")
          .Build();
    case FinishReason::kDeadline:
      return DeadlineExceeded();
    case FinishReason::kError:
      return Failed(finish.status);
  }
  return Internal();
}

}  // namespace sentencekv
