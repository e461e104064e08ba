// The names of gRPC's status codes, as its documentation writes them. For the
// daemon's logs and metrics and for the client's error texts.
#pragma once

#include <grpcpp/support/status_code_enum.h>

#include <cstddef>
#include <iterator>
#include <string_view>

namespace sentencekv {

// "OK", "CANCELLED", ...; "UNKNOWN" for a number that no code has.
inline std::string_view Name(grpc::StatusCode code) {
  static constexpr std::string_view kNames[] = {"OK",
                                                "CANCELLED",
                                                "UNKNOWN",
                                                "INVALID_ARGUMENT",
                                                "DEADLINE_EXCEEDED",
                                                "NOT_FOUND",
                                                "ALREADY_EXISTS",
                                                "PERMISSION_DENIED",
                                                "RESOURCE_EXHAUSTED",
                                                "FAILED_PRECONDITION",
                                                "ABORTED",
                                                "OUT_OF_RANGE",
                                                "UNIMPLEMENTED",
                                                "INTERNAL",
                                                "UNAVAILABLE",
                                                "DATA_LOSS",
                                                "UNAUTHENTICATED"};
  const auto index = static_cast<size_t>(code);
  return index < std::size(kNames) ? kNames[index] : "UNKNOWN";
}

}  // namespace sentencekv
