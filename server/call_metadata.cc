#include "server/call_metadata.h"

#include <chrono>

#include "server/request_validation.h"

namespace sentencekv {
namespace {

constexpr char kRequestIdHeader[] = "x-request-id";
constexpr char kTraceparentHeader[] = "traceparent";

std::string HeaderOf(const grpc::CallbackServerContext& context,
                     const char* name) {
  const auto& metadata = context.client_metadata();
  const auto entry = metadata.find(name);
  if (entry == metadata.end()) return "";
  return std::string(entry->second.data(), entry->second.size());
}

}  // namespace

CallMetadata ReadCallMetadata(const grpc::CallbackServerContext& context) {
  CallMetadata result;
  result.request_id = HeaderOf(context, kRequestIdHeader);
  if (!result.request_id.empty() && !IsValidRequestId(result.request_id)) {
    result.violations.push_back(
        {"metadata.x-request-id",
         "must have 1..128 printable ASCII characters and no space"});
    result.request_id.clear();
  }
  const std::string traceparent = HeaderOf(context, kTraceparentHeader);
  if (IsValidTraceparent(traceparent)) result.traceparent = traceparent;
  return result;
}

void EchoCallMetadata(const CallMetadata& metadata,
                      const std::string& request_id,
                      grpc::CallbackServerContext* context) {
  if (!request_id.empty())
    context->AddInitialMetadata(kRequestIdHeader, request_id);
  if (!metadata.traceparent.empty())
    context->AddInitialMetadata(kTraceparentHeader, metadata.traceparent);
}

absl::Time DeadlineOf(const grpc::CallbackServerContext& context) {
  const std::chrono::system_clock::time_point deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max())
    return absl::InfiniteFuture();
  return absl::FromChrono(deadline);
}

bool IsValidTraceparent(std::string_view text) {
  // 2 + 1 + 32 + 1 + 16 + 1 + 2 characters.
  constexpr size_t kLength = 55;
  constexpr std::string_view kHex = "0123456789abcdef";
  if (text.size() != kLength) return false;
  for (size_t i = 0; i < kLength; ++i) {
    const bool is_dash = i == 2 || i == 35 || i == 52;
    if (is_dash ? text[i] != '-' : kHex.find(text[i]) == std::string_view::npos)
      return false;
  }
  return text.substr(0, 2) != "ff" &&
         text.substr(3, 32).find_first_not_of('0') != std::string_view::npos &&
         text.substr(36, 16).find_first_not_of('0') != std::string_view::npos;
}

}  // namespace sentencekv
