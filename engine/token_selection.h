// Passes over one row of logits [V] f32: what sampling needs of a vocabulary
// of 50k to 128k tokens, without ever sorting all of it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sentencekv {

struct Candidate {
  float logit = 0;
  int32_t id = 0;
};

// The order of candidates: highest logit first, lowest id on ties.
constexpr bool ComesBefore(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

// False when any logit is NaN or plus infinity. (Minus infinity is a token
// that cannot come.)
bool AllUsable(std::span<const float> logits);

// The first in the order of candidates. REQUIRES: not empty, no NaN.
Candidate HighestLogit(std::span<const float> logits);

// The first `count` in the order of candidates, in that order, into
// *selected; all of them when there are fewer. O(V + count log count) for
// count much smaller than V. REQUIRES: no NaN.
void SelectHighest(std::span<const float> logits, int64_t count,
                   std::vector<Candidate>* selected);

// log(sum(exp(logit))), summed in double. REQUIRES: AllUsable and at least one
// finite logit.
double LogSumExp(std::span<const float> logits);

}  // namespace sentencekv
