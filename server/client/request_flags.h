// The flags that say how an answer is made: sampling, stopping, output, KV.
// Every field of GenerateRequest but its input is reachable here; a flag that
// is not given leaves its field unset, so that the server's default holds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "sentencekv/v1/sentencekv.pb.h"

namespace CLI {
class App;
}  // namespace CLI

namespace sentencekv {

struct RequestFlags {
  std::optional<std::string> model;

  std::optional<float> temperature;
  std::optional<float> top_p;
  std::optional<int32_t> top_k;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::optional<float> frequency_penalty;
  std::optional<float> presence_penalty;
  std::optional<uint64_t> seed;
  std::vector<std::string> logit_bias;  // "ID=VALUE"

  std::optional<int32_t> max_tokens;
  std::optional<int32_t> min_tokens;
  std::vector<std::string> stop_strings;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  bool include_stop_string = false;

  std::optional<int32_t> logprobs;
  bool prompt_logprobs = false;
  bool echo = false;
  bool render_special = false;

  std::optional<std::string> kv_policy;
  std::optional<int32_t> kv_budget;
  std::optional<double> kv_semantic_factor;
  std::optional<std::string> kv_index_kind;
  std::optional<bool> kv_prior;
  std::optional<bool> kv_strict;
  std::optional<bool> kv_head_budgets;
  std::optional<int32_t> kv_prior_half_life;
  std::optional<double> kv_query_blend;
  std::optional<int32_t> kv_sink;
  std::optional<int32_t> kv_recent;
  std::optional<int32_t> kv_dense;
  std::optional<double> kv_reuse_bonus;
  bool bypass_prefix_cache = false;
  std::optional<std::string> cache_salt;

  // Sampling, stopping and KV: what every generating sub-command offers.
  void AddTo(CLI::App& app);
  // Log-probabilities, echo, special tokens.
  void AddOutputTo(CLI::App& app);

  // kInvalidArgument for a --logit-bias that is not ID=VALUE; bounds are the
  // server's to check.
  absl::Status Fill(v1::GenerateRequest* request) const;
};

}  // namespace sentencekv
