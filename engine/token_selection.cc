#include "engine/token_selection.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "kernels/check.h"

namespace sentencekv {

bool AllUsable(std::span<const float> logits) {
  // A comparison with NaN is false, so one test finds both; counted, not
  // branched on, so that the loop is vectorised.
  int32_t usable = 0;
  for (const float logit : logits) {
    usable += logit < std::numeric_limits<float>::infinity() ? 1 : 0;
  }
  return usable == static_cast<int32_t>(logits.size());
}

Candidate HighestLogit(std::span<const float> logits) {
  SKV_CHECK(!logits.empty());
  // Eight independent maxima: a single one would wait for itself at each
  // element.
  std::array<float, 8> lanes;
  lanes.fill(-std::numeric_limits<float>::infinity());
  size_t i = 0;
  for (; i + lanes.size() <= logits.size(); i += lanes.size()) {
    for (size_t lane = 0; lane < lanes.size(); ++lane) {
      const float logit = logits[i + lane];
      lanes[lane] = logit > lanes[lane] ? logit : lanes[lane];
    }
  }
  float highest = *std::max_element(lanes.begin(), lanes.end());
  for (; i < logits.size(); ++i) highest = std::max(highest, logits[i]);
  const auto first = std::find(logits.begin(), logits.end(), highest);
  return {highest, static_cast<int32_t>(first - logits.begin())};
}

void SelectHighest(std::span<const float> logits, int64_t count,
                   std::vector<Candidate>* selected) {
  selected->clear();
  if (count <= 0) return;
  const size_t wanted = std::min(static_cast<size_t>(count), logits.size());
  // Keep a pool of candidates; when it is full, cut it to the best `wanted`,
  // and from then on look only at what beats the worst of those. Equal logits
  // with a higher id lose, so "greater" is the whole test.
  const size_t pool_size = std::max<size_t>(4 * wanted, 256);
  float threshold = -std::numeric_limits<float>::infinity();
  bool cut = false;
  for (size_t id = 0; id < logits.size(); ++id) {
    const float logit = logits[id];
    if (cut && !(logit > threshold)) continue;
    selected->push_back({logit, static_cast<int32_t>(id)});
    if (selected->size() < pool_size) continue;
    std::nth_element(selected->begin(), selected->begin() + (wanted - 1),
                     selected->end(), ComesBefore);
    selected->resize(wanted);
    threshold = selected->back().logit;
    cut = true;
  }
  if (selected->size() > wanted) {
    std::nth_element(selected->begin(), selected->begin() + (wanted - 1),
                     selected->end(), ComesBefore);
    selected->resize(wanted);
  }
  std::sort(selected->begin(), selected->end(), ComesBefore);
}

double LogSumExp(std::span<const float> logits) {
  const float highest = HighestLogit(logits).logit;
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - highest);
  return highest + std::log(sum);
}

}  // namespace sentencekv
