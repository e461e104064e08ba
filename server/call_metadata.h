// What a call says about itself beside its message: x-request-id, traceparent
// and its deadline. Runs on RPC threads.
#pragma once

#include <grpcpp/server_context.h>

#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "server/status_mapping.h"

namespace sentencekv {

struct CallMetadata {
  std::string request_id;   // x-request-id; "" when absent
  std::string traceparent;  // "" when absent or malformed
  // An x-request-id that is not allowed. A malformed traceparent is ignored,
  // as https://www.w3.org/TR/trace-context/ asks.
  std::vector<FieldViolation> violations;
};

CallMetadata ReadCallMetadata(const grpc::CallbackServerContext& context);

// Adds traceparent and `request_id`, where not empty, to the initial metadata.
void EchoCallMetadata(const CallMetadata& metadata,
                      const std::string& request_id,
                      grpc::CallbackServerContext* context);

// InfiniteFuture when the client set none.
absl::Time DeadlineOf(const grpc::CallbackServerContext& context);

// version-traceid-parentid-flags in lower-case hex, neither id all zero.
bool IsValidTraceparent(std::string_view text);

}  // namespace sentencekv
