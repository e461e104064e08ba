// Every gRPC status that this server answers with, and the details that travel
// with it (google.rpc.Status in grpc-status-details-bin).
//
// Texts are fixed, values come last, and nothing of a prompt is in them. Pure
// functions, any thread.
#pragma once

#include <grpcpp/support/status.h>

#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "engine/request.h"
#include "server/status_names.h"

namespace sentencekv {

// One field of a request that breaks a rule.
struct FieldViolation {
  std::string field;        // path, e.g. "sampling.top_p"
  std::string description;  // the rule and the value, never prompt text
};

// INVALID_ARGUMENT with BadRequest. At most kMaxReportedViolations are listed:
// clients accept only 8 KiB of trailers by default. REQUIRES: not empty.
inline constexpr size_t kMaxReportedViolations = 20;
grpc::Status InvalidRequest(std::span<const FieldViolation> violations);

// NOT_FOUND with ErrorInfo MODEL_NOT_FOUND.
grpc::Status UnknownModel(std::string_view served_name);

// NOT_FOUND with ErrorInfo REQUEST_NOT_FOUND.
grpc::Status UnknownRequest();

// What a refusal by Engine::Submit becomes. `input_field` is the field that an
// invalid prompt came in.
//   kInvalidArgument    INVALID_ARGUMENT, BadRequest
//   kResourceExhausted  RESOURCE_EXHAUSTED, ErrorInfo QUEUE_FULL, RetryInfo,
//                       QuotaFailure
//   kUnavailable        UNAVAILABLE, ErrorInfo DRAINING, RetryInfo
//   kDeadlineExceeded   DEADLINE_EXCEEDED, ErrorInfo DEADLINE_EXCEEDED
//   kAlreadyExists      ALREADY_EXISTS, ErrorInfo REQUEST_ID_IN_USE
//   anything else       INTERNAL, ErrorInfo INTERNAL; the details are for the
//                       log only
grpc::Status Refused(const absl::Status& status, std::string_view input_field);

// The status that ends the stream of an accepted request.
grpc::Status StatusOf(const Finish& finish);

}  // namespace sentencekv
