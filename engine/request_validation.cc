#include "engine/request_validation.h"

#include <cmath>
#include <span>
#include <string_view>

#include "fmt/format.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

struct NumberBound {
  const char* field;
  double value;
  double low;
  double high;
};

absl::Status CheckBounds(std::span<const NumberBound> bounds) {
  for (const NumberBound& bound : bounds) {
    // Written so that NaN fails.
    if (!(bound.value >= bound.low && bound.value <= bound.high)) {
      return absl::InvalidArgumentError(
          fmt::format("{}: must be in {} .. {}, got {}", bound.field, bound.low,
                      bound.high, bound.value));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTokenId(std::string_view field, int32_t id,
                          int64_t vocab_size) {
  if (id >= 0 && id < vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "{}: token ids must be in 0 .. {}, got {}", field, vocab_size - 1, id));
}

}  // namespace

absl::Status ValidatePromptLength(const GenerateRequest& request,
                                  const RequestLimits& limits) {
  const int64_t prompt_tokens = static_cast<int64_t>(request.prompt.size());
  if (prompt_tokens < 1 || prompt_tokens + 1 > limits.max_request_tokens) {
    return absl::InvalidArgumentError(
        fmt::format("prompt: must have 1 .. {} tokens, has {}",
                    limits.max_request_tokens - 1, prompt_tokens));
  }
  const int64_t forced_tokens = request.kv.forced_tokens;
  if (forced_tokens < 0 || forced_tokens >= prompt_tokens) {
    return absl::InvalidArgumentError(fmt::format(
        "kv.forced_tokens: must be in 0..{}, as the prompt has {} tokens, got "
        "{}",
        prompt_tokens - 1, prompt_tokens, forced_tokens));
  }
  return absl::OkStatus();
}

absl::Status ValidateRequest(const GenerateRequest& request,
                             const RequestLimits& limits) {
  const SamplingParams& sampling = request.sampling;
  const double vocab_size = static_cast<double>(limits.vocab_size);
  const NumberBound bounds[] = {
      {"sampling.temperature", sampling.temperature, 0, 1e6},
      {"sampling.top_k", static_cast<double>(sampling.top_k), 0, INT32_MAX},
      {"sampling.top_p", sampling.top_p, 1e-9, 1},
      {"sampling.min_p", sampling.min_p, 0, 1},
      {"sampling.repetition_penalty", sampling.repetition_penalty, 1e-6, 1e6},
      {"sampling.frequency_penalty", sampling.frequency_penalty, -1e6, 1e6},
      {"sampling.presence_penalty", sampling.presence_penalty, -1e6, 1e6},
      {"stop.max_tokens", static_cast<double>(request.stop.max_tokens), 0,
       INT32_MAX},
      {"stop.min_tokens", static_cast<double>(request.stop.min_tokens), 0,
       INT32_MAX},
      {"output.logprobs", static_cast<double>(request.output.num_logprobs), -1,
       vocab_size},
  };
  SKV_RETURN_IF_ERROR(CheckBounds(bounds));
  for (const auto& [id, bias] : sampling.logit_bias) {
    SKV_RETURN_IF_ERROR(
        CheckTokenId("sampling.logit_bias", id, limits.vocab_size));
    const NumberBound bound[] = {{"sampling.logit_bias", bias, -1e6, 1e6}};
    SKV_RETURN_IF_ERROR(CheckBounds(bound));
  }
  for (const int32_t id : request.stop.stop_token_ids) {
    SKV_RETURN_IF_ERROR(
        CheckTokenId("stop.stop_token_ids", id, limits.vocab_size));
  }
  for (const int32_t id : request.prompt) {
    SKV_RETURN_IF_ERROR(CheckTokenId("prompt", id, limits.vocab_size));
  }
  return absl::OkStatus();
}

}  // namespace sentencekv
