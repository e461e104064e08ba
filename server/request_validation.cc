#include "server/request_validation.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <optional>

#include "cache/kv_policy.h"
#include "tokenizer/utf8.h"

namespace sentencekv {
namespace {

using Request = v1::GenerateRequest;
using Violations = std::vector<FieldViolation>;

// Stands for the size of the model's vocabulary where a table holds a bound.
constexpr double kVocabulary = -1;
constexpr double kInt32Max = std::numeric_limits<int32_t>::max();

// A number that lies within bounds when it is set. All of them are exact as
// doubles.
struct NumberRule {
  const char* field;
  double minimum;
  double maximum;
  bool minimum_allowed;
  std::optional<double> (*value)(const Request&);
};

// The value of an optional field.
#define SKV_OPTIONAL(group, name)                           \
  [](const Request& request) -> std::optional<double> {     \
    if (!request.group().has_##name()) return std::nullopt; \
    return static_cast<double>(request.group().name());     \
  }

constexpr NumberRule kNumberRules[] = {
    {"sampling.temperature", 0, 100, true, SKV_OPTIONAL(sampling, temperature)},
    {"sampling.top_p", 0, 1, false, SKV_OPTIONAL(sampling, top_p)},
    {"sampling.top_k", 0, kVocabulary, true, SKV_OPTIONAL(sampling, top_k)},
    {"sampling.min_p", 0, 1, true, SKV_OPTIONAL(sampling, min_p)},
    {"sampling.repetition_penalty", 0, 100, false,
     SKV_OPTIONAL(sampling, repetition_penalty)},
    {"sampling.frequency_penalty", -100, 100, true,
     SKV_OPTIONAL(sampling, frequency_penalty)},
    {"sampling.presence_penalty", -100, 100, true,
     SKV_OPTIONAL(sampling, presence_penalty)},
    {"stop.max_tokens", 1, kInt32Max, true, SKV_OPTIONAL(stop, max_tokens)},
    {"stop.min_tokens", 0, kInt32Max, true, SKV_OPTIONAL(stop, min_tokens)},
    {"output.logprobs", 0, kMaxLogprobs, true, SKV_OPTIONAL(output, logprobs)},
    {"output.sentence_trace", 0, kMaxTraceSources, true,
     SKV_OPTIONAL(output, sentence_trace)},
    {"kv.token_budget", 1, kInt32Max, true, SKV_OPTIONAL(kv, token_budget)},
    {"kv.semantic_factor", 1, 1000, true, SKV_OPTIONAL(kv, semantic_factor)},
    {"kv.prior_half_life", 0, kInt32Max, true,
     SKV_OPTIONAL(kv, prior_half_life)},
    {"kv.query_blend", 0, 1, true, SKV_OPTIONAL(kv, query_blend)},
    {"kv.sink_tokens", 0, kInt32Max, true, SKV_OPTIONAL(kv, sink_tokens)},
    {"kv.recent_tokens", 1, kInt32Max, true, SKV_OPTIONAL(kv, recent_tokens)},
    {"kv.dense_tokens", 0, kInt32Max, true, SKV_OPTIONAL(kv, dense_tokens)},
    {"kv.reuse_bonus", 0, 10, true, SKV_OPTIONAL(kv, reuse_bonus)},
    {"kv.forced_tokens", 0, kInt32Max, true, SKV_OPTIONAL(kv, forced_tokens)},
};
#undef SKV_OPTIONAL

// A repeated field with at most so many elements.
struct CountRule {
  const char* field;
  int maximum;
  int (*count)(const Request&);
};

constexpr CountRule kCountRules[] = {
    {"sampling.logit_bias", kMaxLogitBias,
     [](const Request& r) {
       return static_cast<int>(r.sampling().logit_bias_size());
     }},
    {"stop.stop_strings", kMaxStopStrings,
     [](const Request& r) { return r.stop().stop_strings_size(); }},
    {"stop.stop_token_ids", kMaxStopTokenIds,
     [](const Request& r) { return r.stop().stop_token_ids_size(); }},
};

// A repeated field of token ids.
struct TokenIdsRule {
  const char* field;
  const google::protobuf::RepeatedField<int32_t>& (*ids)(const Request&);
};

constexpr TokenIdsRule kTokenIdsRules[] = {
    {"token_ids.ids",
     [](const Request& r) -> const auto& {return r.token_ids().ids();
}  // namespace
}  // namespace sentencekv
, {"stop.stop_token_ids",
   [](const Request& r) -> const auto& {return r.stop().stop_token_ids();
}
}
,
}
;

void CheckUtf8(std::string_view field, std::string_view text,
               Violations& violations) {
  if (!IsValidUtf8(text))
    violations.push_back({std::string(field), "is not valid UTF-8"});
}

void CheckNumbers(const Request& request, const ServedLimits& limits,
                  Violations& violations) {
  for (const NumberRule& rule : kNumberRules) {
    const std::optional<double> value = rule.value(request);
    if (!value.has_value()) continue;
    const double maximum = rule.maximum == kVocabulary
                               ? static_cast<double>(limits.vocab_size)
                               : rule.maximum;
    const bool above_minimum =
        rule.minimum_allowed ? *value >= rule.minimum : *value > rule.minimum;
    // NaN fails both comparisons.
    if (above_minimum && *value <= maximum) continue;
    violations.push_back(
        {rule.field, fmt::format("must be within {}{}, {}], got {}",
                                 rule.minimum_allowed ? "[" : "(", rule.minimum,
                                 maximum, *value)});
  }
}

void CheckCounts(const Request& request, Violations& violations) {
  for (const CountRule& rule : kCountRules) {
    const int count = rule.count(request);
    if (count <= rule.maximum) continue;
    violations.push_back({rule.field, fmt::format("at most {} entries, got {}",
                                                  rule.maximum, count)});
  }
}

// Reports the first id outside the vocabulary.
void CheckTokenIds(std::string_view field,
                   const google::protobuf::RepeatedField<int32_t>& ids,
                   const ServedLimits& limits, Violations& violations) {
  for (int i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < limits.vocab_size) continue;
    violations.push_back({fmt::format("{}[{}]", field, i),
                          fmt::format("must be within [0, {}], got {}",
                                      limits.vocab_size - 1, ids[i])});
    return;
  }
}

// Reports the first entry of the map that breaks a rule; its order is that of
// the hash, so which one is not fixed.
void CheckLogitBias(const Request& request, const ServedLimits& limits,
                    Violations& violations) {
  constexpr float kMaxBias = 100;
  for (const auto& [id, bias] : request.sampling().logit_bias()) {
    const std::string field = fmt::format("sampling.logit_bias[{}]", id);
    if (id < 0 || id >= limits.vocab_size) {
      violations.push_back({field, fmt::format("the key must be within [0, {}]",
                                               limits.vocab_size - 1)});
      return;
    }
    if (!(std::fabs(bias) <= kMaxBias)) {
      violations.push_back(
          {field, fmt::format("must be within [-100, 100], got {}", bias)});
      return;
    }
  }
}

void CheckStopStrings(const Request& request, Violations& violations) {
  for (int i = 0; i < request.stop().stop_strings_size(); ++i) {
    const std::string& text = request.stop().stop_strings(i);
    const std::string field = fmt::format("stop.stop_strings[{}]", i);
    CheckUtf8(field, text, violations);
    if (!text.empty() && text.size() <= kMaxStopStringBytes) continue;
    violations.push_back(
        {field, fmt::format("must have 1..{} bytes, got {}",
                            kMaxStopStringBytes, text.size())});
    return;
  }
}

void CheckPromptBytes(std::string_view field, size_t num_bytes,
                      const ServedLimits& limits, Violations& violations) {
  if (static_cast<int64_t>(num_bytes) <= limits.max_prompt_bytes()) return;
  violations.push_back(
      {std::string(field),
       fmt::format("at most {} bytes can fit the longest request of {} tokens, "
                   "got {}",
                   limits.max_prompt_bytes(), limits.max_request_tokens,
                   num_bytes)});
}

void CheckText(const std::string& text, const ServedLimits& limits,
               Violations& violations) {
  if (text.empty()) violations.push_back({"text", "must not be empty"});
  CheckPromptBytes("text", text.size(), limits, violations);
  CheckUtf8("text", text, violations);
}

void CheckChat(const v1::ChatInput& chat, const ServedLimits& limits,
               Violations& violations) {
  if (chat.messages_size() < 1 || chat.messages_size() > kMaxChatMessages) {
    violations.push_back(
        {"chat.messages", fmt::format("must have 1..{} entries, got {}",
                                      kMaxChatMessages, chat.messages_size())});
    return;
  }
  size_t num_bytes = chat.assistant_prefix().size();
  CheckUtf8("chat.assistant_prefix", chat.assistant_prefix(), violations);
  for (int i = 0; i < chat.messages_size(); ++i) {
    const v1::ChatMessage& message = chat.messages(i);
    num_bytes += message.content().size();
    if (message.role() != "system" && message.role() != "user" &&
        message.role() != "assistant") {
      violations.push_back({fmt::format("chat.messages[{}].role", i),
                            "must be system, user or assistant"});
    }
    CheckUtf8(fmt::format("chat.messages[{}].content", i), message.content(),
              violations);
  }
  CheckPromptBytes("chat.messages", num_bytes, limits, violations);
}

void CheckInput(const Request& request, const ServedLimits& limits,
                Violations& violations) {
  switch (request.input_case()) {
    case Request::kText:
      return CheckText(request.text(), limits, violations);
    case Request::kChat:
      return CheckChat(request.chat(), limits, violations);
    case Request::kTokenIds:
      if (request.token_ids().ids().empty())
        violations.push_back({"token_ids.ids", "must not be empty"});
      return;
    case Request::INPUT_NOT_SET:
      violations.push_back(
          {"input", "one of text, token_ids and chat must be set"});
  }
}

// A max_tokens that is wrong by itself is reported by its own rule only.
void CheckStopOrder(const v1::StopParams& stop, Violations& violations) {
  if (!stop.has_max_tokens() || stop.max_tokens() < 1) return;
  if (stop.min_tokens() <= stop.max_tokens()) return;
  violations.push_back(
      {"stop.min_tokens",
       fmt::format("must be at most stop.max_tokens ({}), got {}",
                   stop.max_tokens(), stop.min_tokens())});
}

void CheckKv(const Request& request, Violations& violations) {
  if (request.kv().cache_salt().size() > kMaxCacheSaltBytes) {
    violations.push_back(
        {"kv.cache_salt",
         fmt::format("at most {} bytes, got {}", kMaxCacheSaltBytes,
                     request.kv().cache_salt().size())});
  }
  if (!request.kv().has_policy()) return;
  const auto names = KvPolicyNames();
  for (const std::string_view name : names) {
    if (name == request.kv().policy()) return;
  }
  std::string known;
  for (const std::string_view name : names)
    known += fmt::format("{}{}", known.empty() ? "" : ", ", name);
  violations.push_back(
      {"kv.policy", fmt::format("unknown; this server has: {}", known)});
}

void CheckRequestId(const std::string& id, Violations& violations) {
  if (IsValidRequestId(id)) return;
  violations.push_back(
      {"request_id",
       fmt::format("must have 1..{} printable ASCII characters and no space",
                   kMaxRequestIdBytes)});
}

}  // namespace

bool IsValidRequestId(std::string_view id) {
  if (id.empty() || id.size() > kMaxRequestIdBytes) return false;
  for (const char c : id) {
    if (c <= ' ' || c > '~') return false;
  }
  return true;
}

Violations Validate(const v1::GenerateRequest& request,
                    const ServedLimits& limits) {
  Violations violations;
  if (request.has_request_id())
    CheckRequestId(request.request_id(), violations);
  CheckInput(request, limits, violations);
  CheckNumbers(request, limits, violations);
  CheckCounts(request, violations);
  for (const TokenIdsRule& rule : kTokenIdsRules)
    CheckTokenIds(rule.field, rule.ids(request), limits, violations);
  CheckLogitBias(request, limits, violations);
  CheckStopStrings(request, violations);
  CheckKv(request, violations);
  CheckStopOrder(request.stop(), violations);
  return violations;
}

Violations Validate(const v1::TokenizeRequest& request,
                    const ServedLimits& limits) {
  Violations violations;
  switch (request.input_case()) {
    case v1::TokenizeRequest::kText:
      CheckPromptBytes("text", request.text().size(), limits, violations);
      CheckUtf8("text", request.text(), violations);
      break;
    case v1::TokenizeRequest::kChat:
      CheckChat(request.chat(), limits, violations);
      break;
    case v1::TokenizeRequest::INPUT_NOT_SET:
      violations.push_back({"input", "one of text and chat must be set"});
  }
  return violations;
}

Violations Validate(const v1::DetokenizeRequest& request,
                    const ServedLimits& limits) {
  Violations violations;
  if (request.token_ids_size() > kMaxDetokenizeIds) {
    violations.push_back({"token_ids", fmt::format("at most {} entries, got {}",
                                                   kMaxDetokenizeIds,
                                                   request.token_ids_size())});
  }
  CheckTokenIds("token_ids", request.token_ids(), limits, violations);
  return violations;
}

Violations Validate(const v1::CancelRequest& request) {
  Violations violations;
  CheckRequestId(request.request_id(), violations);
  return violations;
}

}  // namespace sentencekv
