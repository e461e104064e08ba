// Chooses a request's next token from a row of float logits.
//
// The order, which request.h promises: penalties, bias and forbidden tokens;
// temperature; top-k; top-p over what top-k left, renormalised; min-p, relative
// to the most likely token; draw. Temperature 0 takes the highest logit after
// the first of these, the lowest id on ties, and draws nothing.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/request.h"
#include "engine/token_selection.h"

namespace sentencekv {

// Working memory of Sample; one serves all samplers of a thread.
struct SamplerWorkspace {
  std::vector<float> logits;          // [V], penalties and bias applied
  std::vector<Candidate> candidates;  // what the filters left
  std::vector<double> weights;        // not normalised, of the candidates
};

// One per request; not thread-safe.
class Sampler {
 public:
  // `params` must be valid (see ValidateRequest).
  // `num_logprobs` as in OutputParams.
  Sampler(const SamplingParams& params, uint64_t seed, int32_t num_logprobs,
          std::span<const int32_t> prompt);

  // The next token. Never one of `forbidden`. kInternal, for this request
  // alone, when the model's logits hold NaN or infinity;
  // kFailedPrecondition when every token is forbidden.
  absl::StatusOr<GeneratedToken> Sample(std::span<const float> logits,
                                        std::span<const int32_t> forbidden,
                                        SamplerWorkspace& workspace);

 private:
  // How often a token was seen.
  struct Seen {
    bool in_prompt = false;
    int32_t generated = 0;
  };

  bool ChangesLogits(std::span<const int32_t> forbidden) const;
  // Penalties, bias and forbidden tokens, in place.
  void ChangeLogits(std::span<float> logits,
                    std::span<const int32_t> forbidden) const;
  // Draws from `logits` by temperature and filters.
  int32_t Draw(std::span<const float> logits, SamplerWorkspace& workspace);
  // Log-probabilities that the request asked for, from the model's own logits.
  void AddLogprobs(std::span<const float> logits, GeneratedToken* token,
                   SamplerWorkspace& workspace) const;

  const SamplingParams params_;
  const uint64_t seed_;
  const int32_t num_logprobs_;
  const bool has_penalties_;
  std::unordered_map<int32_t, Seen> seen_;  // empty without penalties
  uint64_t num_sampled_ = 0;
};

// Log-probability of `id` under the softmax of `logits`; kInternal when they
// hold NaN or infinity.
absl::StatusOr<float> LogprobOf(std::span<const float> logits, int32_t id);

}  // namespace sentencekv
