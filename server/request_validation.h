// The wall: every field of every request, both bounds, in one table. Nothing
// behind it meets a number or a length that is not allowed.
//
// All that is wrong with a request is reported at once. Descriptions contain
// rules and numbers, never prompt text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sentencekv/v1/sentencekv.pb.h"
#include "server/status_mapping.h"

namespace sentencekv {

// A prompt of more bytes than this many per token of the longest request is
// refused before it is tokenised. English has about four, code about three;
// the longest runs that real vocabularies merge (spaces) stay below it.
inline constexpr int64_t kMaxPromptBytesPerToken = 32;

// Fixed bounds; docs/api.md repeats them.
inline constexpr size_t kMaxRequestIdBytes = 128;
inline constexpr int kMaxStopStrings = 16;
inline constexpr size_t kMaxStopStringBytes = 256;
inline constexpr int kMaxStopTokenIds = 64;
inline constexpr int kMaxLogitBias = 1024;
inline constexpr int kMaxLogprobs = 20;
inline constexpr int kMaxTraceSources = 64;
inline constexpr int kMaxChatMessages = 1024;
inline constexpr size_t kMaxCacheSaltBytes = 256;
inline constexpr int kMaxDetokenizeIds = 1 << 17;

// The bounds that depend on the model.
struct ServedLimits {
  int64_t vocab_size = 0;          // V
  int64_t max_request_tokens = 0;  // prompt and answer

  int64_t max_prompt_bytes() const {
    return max_request_tokens * kMaxPromptBytesPerToken;
  }
};

// Empty when the request is valid. O(size of the request).
std::vector<FieldViolation> Validate(const v1::GenerateRequest& request,
                                     const ServedLimits& limits);
std::vector<FieldViolation> Validate(const v1::TokenizeRequest& request,
                                     const ServedLimits& limits);
std::vector<FieldViolation> Validate(const v1::DetokenizeRequest& request,
                                     const ServedLimits& limits);
std::vector<FieldViolation> Validate(const v1::CancelRequest& request);

// 1..128 printable ASCII characters without spaces: fits a header and a log
// line. Also the rule for the x-request-id header.
bool IsValidRequestId(std::string_view id);

}  // namespace sentencekv
