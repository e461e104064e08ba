#include "cache/head_budgets.h"

#include <algorithm>
#include <numeric>

namespace sentencekv {
namespace {

// Attention to sentences that are neither chosen nor read anyway.
double LeftOut(const SelectionLimits& limits, const SentenceSpans& spans,
               std::span<const float> attention,
               std::span<const int32_t> chosen) {
  std::vector<bool> is_chosen(attention.size());
  for (const int32_t sentence : chosen) {
    is_chosen[static_cast<size_t>(sentence)] = true;
  }
  double left_out = 0;
  for (size_t i = 0; i < attention.size(); ++i) {
    const auto sentence = static_cast<int64_t>(i);
    const bool is_read =
        is_chosen[i] || spans.begin(sentence) < limits.num_sink ||
        spans.end(sentence) > spans.num_tokens - limits.num_recent;
    if (!is_read) left_out += static_cast<double>(attention[i]);
  }
  return left_out;
}

}  // namespace

// Shares that would pass the most are cut, and all others grow until the mean
// is 1 again.
std::vector<double> HeadShares(std::span<const double> misses) {
  const auto count = static_cast<double>(misses.size());
  const double mean =
      std::accumulate(misses.begin(), misses.end(), 0.0) / count;
  std::vector<double> shares(misses.size(), 1.0);
  if (!(mean > 0)) return shares;
  for (size_t i = 0; i < misses.size(); ++i) {
    shares[i] = kLeastHeadShare + (1 - kLeastHeadShare) * misses[i] / mean;
  }
  double scale = 1;
  double next = 1;
  // It rises until no further share is cut.
  do {
    scale = next;
    double cut = 0;
    double rest = 0;
    for (const double share : shares) {
      if (share * scale >= kMostHeadShare) {
        cut += kMostHeadShare;
      } else {
        rest += share;
      }
    }
    next = (count - cut) / rest;
  } while (next > scale);
  for (double& share : shares) share = std::min(share * scale, kMostHeadShare);
  return shares;
}

void HeadBudgets::AddHead(const SelectionLimits& limits,
                          const SentenceSpans& spans,
                          std::span<const float> attention,
                          std::span<const float> scores) {
  const auto left_out_by = [&](std::span<const float> ranks) {
    return LeftOut(limits, spans, attention,
                   selector_.ChooseSentences(limits, spans, ranks));
  };
  misses_.push_back(
      std::max(left_out_by(scores) - left_out_by(attention), 0.0));
  const int64_t num_heads = shape_.num_layers * shape_.num_kv_heads;
  if (std::ssize(misses_) < num_heads) return;
  for (const double share : HeadShares(misses_)) {
    budgets_.push_back(
        static_cast<int32_t>(share * static_cast<double>(limits.budget)));
  }
}

SelectionLimits HeadBudgets::LimitsOf(SelectionLimits limits, int64_t layer,
                                      int64_t kv_head) const {
  if (!budgets_.empty()) {
    limits.budget =
        budgets_[static_cast<size_t>(layer * shape_.num_kv_heads + kv_head)];
  }
  return limits;
}

}  // namespace sentencekv
