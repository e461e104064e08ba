#include "server/client/request_flags.h"

#include <cstdlib>

#include "CLI/CLI.hpp"
#include "fmt/format.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

void AddSamplingTo(CLI::App& app, RequestFlags& flags) {
  constexpr char kGroup[] = "Sampling";
  app.add_option("--temperature", flags.temperature, "0: always the likeliest")
      ->group(kGroup);
  app.add_option("--top-p", flags.top_p, "Keep this much probability")
      ->group(kGroup);
  app.add_option("--top-k", flags.top_k, "Keep this many tokens; 0: all")
      ->group(kGroup);
  app.add_option("--min-p", flags.min_p,
                 "Keep tokens at least this likely, relative to the likeliest")
      ->group(kGroup);
  app.add_option("--repetition-penalty", flags.repetition_penalty,
                 "Above 1: against tokens of the prompt and the answer")
      ->group(kGroup);
  app.add_option("--frequency-penalty", flags.frequency_penalty,
                 "For each time that a token was generated")
      ->group(kGroup);
  app.add_option("--presence-penalty", flags.presence_penalty,
                 "Once for a token that was generated")
      ->group(kGroup);
  app.add_option("--seed", flags.seed, "The same seed gives the same text")
      ->group(kGroup);
  app.add_option("--logit-bias", flags.logit_bias,
                 "ID=VALUE is added to a token's logit; repeatable")
      ->allow_extra_args(false)
      ->group(kGroup);
}

void AddStopTo(CLI::App& app, RequestFlags& flags) {
  constexpr char kGroup[] = "Stopping";
  app.add_option("--max-tokens", flags.max_tokens,
                 "Longest answer; default: what the context leaves")
      ->group(kGroup);
  app.add_option("--min-tokens", flags.min_tokens, "Shortest answer")
      ->group(kGroup);
  app.add_option("--stop", flags.stop_strings,
                 "Text that ends the answer; repeatable")
      ->allow_extra_args(false)
      ->group(kGroup);
  app.add_option("--stop-id", flags.stop_token_ids,
                 "Token id that ends the answer; repeatable")
      ->allow_extra_args(false)
      ->group(kGroup);
  app.add_flag("--ignore-eos", flags.ignore_eos,
               "The model's end of text does not end the answer")
      ->group(kGroup);
  app.add_flag("--include-stop", flags.include_stop_string,
               "Leave the stop text in the answer")
      ->group(kGroup);
}

void AddKvTo(CLI::App& app, RequestFlags& flags) {
  constexpr char kGroup[] = "KV cache";
  app.add_option("--kv-policy", flags.kv_policy,
                 "How the cache is read; see `sentencekv models`")
      ->group(kGroup);
  app.add_option("--kv-budget", flags.kv_budget,
                 "Tokens that one step may attend to")
      ->group(kGroup);
  app.add_option("--kv-semantic-factor", flags.kv_semantic_factor,
                 "Factor r of the policy sentence-paper")
      ->group(kGroup);
  app.add_option("--kv-index-kind", flags.kv_index_kind,
                 "Policy sentence: mean, minmax or sign")
      ->group(kGroup);
  app.add_option("--kv-prior", flags.kv_prior,
                 "Policy sentence: what the prompt's end looked at counts")
      ->group(kGroup);
  app.add_option("--kv-prior-half-life", flags.kv_prior_half_life,
                 "Policy sentence: generated tokens after which it counts half")
      ->group(kGroup);
  app.add_option("--kv-strict", flags.kv_strict,
                 "Policy sentence: steps read what they choose, not what the "
                 "step before chose")
      ->group(kGroup);
  app.add_option("--kv-head-budgets", flags.kv_head_budgets,
                 "Policy sentence: heads whose index misses much get more of "
                 "the budget")
      ->group(kGroup);
  app.add_option("--kv-query-blend", flags.kv_query_blend,
                 "Policy sentence: weight of the sentence's mean query")
      ->group(kGroup);
  app.add_option("--kv-sink", flags.kv_sink,
                 "Policy sentence: first tokens that are always read")
      ->group(kGroup);
  app.add_option("--kv-recent", flags.kv_recent,
                 "Policy sentence: last tokens that are always read")
      ->group(kGroup);
  app.add_option("--kv-dense", flags.kv_dense,
                 "Policy sentence: contexts up to here are read as a whole")
      ->group(kGroup);
  app.add_option("--kv-reuse-bonus", flags.kv_reuse_bonus,
                 "Policy sentence: favours what the step before has read")
      ->group(kGroup);
  app.add_flag("--bypass-prefix-cache", flags.bypass_prefix_cache,
               "Compute the whole prompt anew")
      ->group(kGroup);
  app.add_option("--cache-salt", flags.cache_salt,
                 "Share cached prompts only under the same salt")
      ->group(kGroup);
}

absl::Status FillSampling(const RequestFlags& flags, v1::SamplingParams* out) {
  if (flags.temperature) out->set_temperature(*flags.temperature);
  if (flags.top_p) out->set_top_p(*flags.top_p);
  if (flags.top_k) out->set_top_k(*flags.top_k);
  if (flags.min_p) out->set_min_p(*flags.min_p);
  if (flags.repetition_penalty)
    out->set_repetition_penalty(*flags.repetition_penalty);
  if (flags.frequency_penalty)
    out->set_frequency_penalty(*flags.frequency_penalty);
  if (flags.presence_penalty)
    out->set_presence_penalty(*flags.presence_penalty);
  if (flags.seed) out->set_seed(*flags.seed);
  for (const std::string& entry : flags.logit_bias) {
    char* id_end = nullptr;
    const long id = std::strtol(entry.c_str(), &id_end, 10);
    char* value_end = nullptr;
    const bool has_id = id_end != entry.c_str() && *id_end == '=';
    const float value = has_id ? std::strtof(id_end + 1, &value_end) : 0;
    if (!has_id || value_end == id_end + 1 || *value_end != '\0' ||
        id != static_cast<int32_t>(id)) {
      return absl::InvalidArgumentError(
          fmt::format("--logit-bias: not ID=VALUE: '{}'", entry));
    }
    (*out->mutable_logit_bias())[static_cast<int32_t>(id)] = value;
  }
  return absl::OkStatus();
}

void FillStop(const RequestFlags& flags, v1::StopParams* out) {
  if (flags.max_tokens) out->set_max_tokens(*flags.max_tokens);
  if (flags.min_tokens) out->set_min_tokens(*flags.min_tokens);
  for (const auto& text : flags.stop_strings) out->add_stop_strings(text);
  for (const int32_t id : flags.stop_token_ids) out->add_stop_token_ids(id);
  if (flags.ignore_eos) out->set_ignore_eos(true);
  if (flags.include_stop_string) out->set_include_stop_string(true);
}

void FillOutput(const RequestFlags& flags, v1::OutputParams* out) {
  if (flags.logprobs) out->set_logprobs(*flags.logprobs);
  if (flags.prompt_logprobs) out->set_prompt_logprobs(true);
  if (flags.echo) out->set_echo(true);
  if (flags.render_special) out->set_render_special(true);
}

void FillKv(const RequestFlags& flags, v1::KvParams* out) {
  if (flags.kv_policy) out->set_policy(*flags.kv_policy);
  if (flags.kv_budget) out->set_token_budget(*flags.kv_budget);
  if (flags.kv_semantic_factor)
    out->set_semantic_factor(*flags.kv_semantic_factor);
  if (flags.kv_index_kind) out->set_index_kind(*flags.kv_index_kind);
  if (flags.kv_prior) out->set_prior(*flags.kv_prior);
  if (flags.kv_strict) out->set_strict(*flags.kv_strict);
  if (flags.kv_head_budgets) out->set_head_budgets(*flags.kv_head_budgets);
  if (flags.kv_prior_half_life)
    out->set_prior_half_life(*flags.kv_prior_half_life);
  if (flags.kv_query_blend) out->set_query_blend(*flags.kv_query_blend);
  if (flags.kv_sink) out->set_sink_tokens(*flags.kv_sink);
  if (flags.kv_recent) out->set_recent_tokens(*flags.kv_recent);
  if (flags.kv_dense) out->set_dense_tokens(*flags.kv_dense);
  if (flags.kv_reuse_bonus) out->set_reuse_bonus(*flags.kv_reuse_bonus);
  if (flags.bypass_prefix_cache) out->set_bypass_prefix_cache(true);
  if (flags.cache_salt) out->set_cache_salt(*flags.cache_salt);
}

}  // namespace

void RequestFlags::AddTo(CLI::App& app) {
  app.add_option("--model", model, "Name as `sentencekv models` shows it");
  AddSamplingTo(app, *this);
  AddStopTo(app, *this);
  AddKvTo(app, *this);
}

void RequestFlags::AddOutputTo(CLI::App& app) {
  constexpr char kGroup[] = "Output";
  app.add_option("--logprobs", logprobs,
                 "Log-probability of each token, and of this many others")
      ->group(kGroup);
  app.add_flag("--prompt-logprobs", prompt_logprobs,
               "Log-probability of each prompt token")
      ->group(kGroup);
  app.add_flag("--echo", echo, "The prompt's text comes first")->group(kGroup);
  app.add_flag("--render-special", render_special,
               "Show control tokens in the text")
      ->group(kGroup);
}

absl::Status RequestFlags::Fill(v1::GenerateRequest* request) const {
  if (model) request->set_model(*model);
  SKV_RETURN_IF_ERROR(FillSampling(*this, request->mutable_sampling()));
  FillStop(*this, request->mutable_stop());
  FillOutput(*this, request->mutable_output());
  FillKv(*this, request->mutable_kv());
  return absl::OkStatus();
}

}  // namespace sentencekv
