#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/random_stream.h"

namespace sentencekv {
namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();
// Penalties keep logits within this, so that no product becomes infinite.
constexpr float kLogitLimit = 1e30f;

// Weight of a logit relative to the highest one, not normalised. The
// difference is taken first: it cannot overflow at a tiny temperature.
double Weight(float logit, float highest, float temperature) {
  return std::exp((logit - highest) / temperature);
}

// The candidates that top-p keeps: the fewest, in order, whose weights reach
// top_p of `total`. *candidates are the first of `logits` in order already, or
// are enlarged until they suffice.
void KeepTopP(std::span<const float> logits, float top_p, float temperature,
              double total, bool may_enlarge,
              std::vector<Candidate>* candidates) {
  for (;;) {
    const float highest = candidates->front().logit;
    double sum = 0;
    for (size_t i = 0; i < candidates->size(); ++i) {
      sum += Weight((*candidates)[i].logit, highest, temperature);
      if (sum >= top_p * total) {
        candidates->resize(i + 1);
        return;
      }
    }
    if (!may_enlarge || candidates->size() == logits.size()) return;
    // Geometric growth: few rounds even for a flat distribution.
    SelectHighest(logits, static_cast<int64_t>(candidates->size()) * 16,
                  candidates);
  }
}

// Index of the weight that a point in [0, 1) falls on.
size_t IndexAt(std::span<const double> weights, double point) {
  double total = 0;
  for (const double weight : weights) total += weight;
  double left = point * total;
  size_t last_possible = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] <= 0) continue;
    last_possible = i;
    left -= weights[i];
    if (left < 0) return i;
  }
  // Rounding can leave a rest.
  return last_possible;
}

}  // namespace

Sampler::Sampler(const SamplingParams& params, uint64_t seed,
                 int32_t num_logprobs, std::span<const int32_t> prompt)
    : params_(params),
      seed_(seed),
      num_logprobs_(num_logprobs),
      has_penalties_(params.repetition_penalty != 1.0f ||
                     params.frequency_penalty != 0.0f ||
                     params.presence_penalty != 0.0f) {
  if (!has_penalties_) return;
  for (const int32_t id : prompt) seen_[id].in_prompt = true;
}

absl::StatusOr<GeneratedToken> Sampler::Sample(
    std::span<const float> logits, std::span<const int32_t> forbidden,
    SamplerWorkspace& workspace) {
  if (!AllUsable(logits)) {
    return absl::InternalError("the model's logits are not finite");
  }
  std::span<const float> changed = logits;
  if (ChangesLogits(forbidden)) {
    workspace.logits.assign(logits.begin(), logits.end());
    ChangeLogits(workspace.logits, forbidden);
    changed = workspace.logits;
  }
  const Candidate highest = HighestLogit(changed);
  if (highest.logit == kImpossible) {
    return absl::FailedPreconditionError("every token is forbidden");
  }
  GeneratedToken token;
  token.id = params_.temperature == 0 ? highest.id : Draw(changed, workspace);
  if (num_logprobs_ >= 0) AddLogprobs(logits, &token, workspace);
  if (has_penalties_) ++seen_[token.id].generated;
  ++num_sampled_;
  return token;
}

bool Sampler::ChangesLogits(std::span<const int32_t> forbidden) const {
  return !forbidden.empty() || !params_.logit_bias.empty() || !seen_.empty();
}

void Sampler::ChangeLogits(std::span<float> logits,
                           std::span<const int32_t> forbidden) const {
  for (const auto& [id, seen] : seen_) {
    float logit = logits[id];
    if (logit == kImpossible) continue;
    logit = logit > 0 ? logit / params_.repetition_penalty
                      : logit * params_.repetition_penalty;
    if (seen.generated > 0) {
      logit -= params_.presence_penalty +
               params_.frequency_penalty * static_cast<float>(seen.generated);
    }
    logits[id] = std::clamp(logit, -kLogitLimit, kLogitLimit);
  }
  for (const auto& [id, bias] : params_.logit_bias) {
    if (logits[id] == kImpossible) continue;
    logits[id] = std::clamp(logits[id] + bias, -kLogitLimit, kLogitLimit);
  }
  for (const int32_t id : forbidden) logits[id] = kImpossible;
}

int32_t Sampler::Draw(std::span<const float> logits,
                      SamplerWorkspace& workspace) {
  const float temperature = params_.temperature;
  const float highest = HighestLogit(logits).logit;
  std::vector<Candidate>& candidates = workspace.candidates;
  std::vector<double>& weights = workspace.weights;
  const bool cut_k =
      params_.top_k > 0 && params_.top_k < static_cast<int64_t>(logits.size());
  const bool cut_p = params_.top_p < 1.0f;

  if (cut_k || cut_p) {
    constexpr int64_t kFirstRound = 64;
    SelectHighest(logits, cut_k ? params_.top_k : kFirstRound, &candidates);
  } else {
    candidates.clear();
    for (size_t id = 0; id < logits.size(); ++id) {
      candidates.push_back({logits[id], static_cast<int32_t>(id)});
    }
  }
  if (cut_p) {
    double total = 0;
    if (cut_k) {
      for (const Candidate& candidate : candidates) {
        total += Weight(candidate.logit, highest, temperature);
      }
    } else {
      for (const float logit : logits) {
        total += Weight(logit, highest, temperature);
      }
    }
    KeepTopP(logits, params_.top_p, temperature, total,
             /*may_enlarge=*/!cut_k, &candidates);
  }
  weights.clear();
  for (const Candidate& candidate : candidates) {
    const double weight = Weight(candidate.logit, highest, temperature);
    weights.push_back(weight >= params_.min_p ? weight : 0.0);
  }
  const double point = RandomUniform(seed_, num_sampled_);
  return candidates[IndexAt(weights, point)].id;
}

void Sampler::AddLogprobs(std::span<const float> logits, GeneratedToken* token,
                          SamplerWorkspace& workspace) const {
  const double log_sum = LogSumExp(logits);
  token->logprob = static_cast<float>(logits[token->id] - log_sum);
  SelectHighest(logits, num_logprobs_, &workspace.candidates);
  for (const Candidate& candidate : workspace.candidates) {
    token->top_logprobs.push_back(
        {candidate.id, static_cast<float>(candidate.logit - log_sum)});
  }
}

absl::StatusOr<float> LogprobOf(std::span<const float> logits, int32_t id) {
  if (!AllUsable(logits)) {
    return absl::InternalError("the model's logits are not finite");
  }
  return static_cast<float>(logits[id] - LogSumExp(logits));
}

}  // namespace sentencekv
