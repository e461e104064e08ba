#include "cache/sentence_settings.h"

#include <string_view>

#include "fmt/format.h"

namespace sentencekv {

SentenceSettings SettingsOf(const KvOptions& options) {
  SentenceSettings settings;
  SelectionLimits& limits = settings.limits;
  limits.budget =
      options.token_budget == 0 ? kDefaultSentenceBudget : options.token_budget;
  limits.num_sink = options.sink_tokens.value_or(limits.num_sink);
  limits.num_recent = options.recent_tokens.value_or(limits.num_recent);
  limits.num_dense = options.dense_tokens.value_or(kDefaultSentenceDense);
  settings.index_kind = options.index_kind.value_or(settings.index_kind);
  settings.prior = options.prior.value_or(settings.prior);
  settings.prior_half_life =
      options.prior_half_life.value_or(settings.prior_half_life);
  settings.query_blend =
      static_cast<float>(options.query_blend.value_or(settings.query_blend));
  settings.reuse_bonus =
      static_cast<float>(options.reuse_bonus.value_or(settings.reuse_bonus));
  settings.head_budgets =
      settings.prior && options.head_budgets.value_or(settings.head_budgets);
  settings.strict = options.strict.value_or(settings.strict);
  settings.trace_sources = options.trace_sources;
  return settings;
}

absl::Status ValidateSentenceOptions(const KvOptions& options) {
  constexpr double kMostTokens = kMostSentenceTokens;
  if (options.semantic_factor != 0) {
    return absl::InvalidArgumentError(fmt::format(
        "kv.semantic_factor: policy sentence keeps every token and takes none, "
        "got {}",
        options.semantic_factor));
  }
  const struct {
    std::string_view name;
    double value;
    double most;
  } numbers[] = {
      {"token_budget", static_cast<double>(options.token_budget), kMostTokens},
      {"sink_tokens", static_cast<double>(options.sink_tokens.value_or(0)),
       kMostTokens},
      {"recent_tokens", static_cast<double>(options.recent_tokens.value_or(1)),
       kMostTokens},
      {"dense_tokens", static_cast<double>(options.dense_tokens.value_or(0)),
       kMostTokens},
      {"prior_half_life",
       static_cast<double>(options.prior_half_life.value_or(0)), kMostTokens},
      {"query_blend", options.query_blend.value_or(0), 1},
      {"reuse_bonus", options.reuse_bonus.value_or(0), 10},
  };
  for (const auto& number : numbers) {
    if (number.value >= 0 && number.value <= number.most) continue;
    return absl::InvalidArgumentError(
        fmt::format("kv.{}: must be in 0..{}, got {}", number.name, number.most,
                    number.value));
  }
  if (options.recent_tokens == 0) {
    return absl::InvalidArgumentError(
        "kv.recent_tokens: must be at least 1, the token itself, got 0");
  }
  return absl::OkStatus();
}

}  // namespace sentencekv
