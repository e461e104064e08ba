// The engine's own wall: what a request must satisfy before it is queued, so
// that nothing in it can hurt a step. The server's table is stricter and comes
// first; this one also guards against other callers.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "engine/request.h"

namespace sentencekv {

struct RequestLimits {
  int64_t vocab_size = 0;
  int64_t max_request_tokens = 0;  // prompt and answer together
};

// Whether the prompt leaves room for one token; kInvalidArgument with both
// numbers when it does not.
absl::Status ValidatePromptLength(const GenerateRequest& request,
                                  const RequestLimits& limits);

// Everything else but the KV options, which the policy checks:
// kInvalidArgument with field and value.
absl::Status ValidateRequest(const GenerateRequest& request,
                             const RequestLimits& limits);

}  // namespace sentencekv
