// How a sequence's token budget is shared among its KV heads.
//
// Heads need unlike amounts. A few look one thing up; where the index does not
// find it, the answer is lost. Most would do with less than they get. Which is
// which shows at the end of the prompt, where exact attention says what the
// index should have found: a head's miss is the attention that its choice by
// the index leaves out, less what a choice by the attention itself would leave
// out. The more a head misses, the larger its share (docs/sentences.md; what it
// brings is in docs/quality.md).
//
// Depends on the prompt and the request's options alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cache/kv_policy.h"
#include "cache/sentence_selection.h"

namespace sentencekv {

// What a head gets of an even share: at least and at most.
inline constexpr double kLeastHeadShare = 0.3;
inline constexpr double kMostHeadShare = 2;

// Shares, 1 in the mean, that grow with the misses. All are 1 where nothing is
// missed.
std::vector<double> HeadShares(std::span<const double> misses);

// Engine thread only.
class HeadBudgets {
 public:
  explicit HeadBudgets(const ModelShape& shape) : shape_(shape) {}

  // The next head's look at the end of the prompt: layer by layer, KV head by
  // KV head. `attention` is what each sentence gets from the prompt's last
  // queries, `scores` what the index says of it; any scales.
  void AddHead(const SelectionLimits& limits, const SentenceSpans& spans,
               std::span<const float> attention, std::span<const float> scores);

  // `limits` with the head's own budget; as they are until the last head was
  // added.
  SelectionLimits LimitsOf(SelectionLimits limits, int64_t layer,
                           int64_t kv_head) const;

 private:
  const ModelShape shape_;
  SentenceSelector selector_;
  std::vector<double> misses_;    // of the heads added
  std::vector<int32_t> budgets_;  // [L * G], tokens, or none
};

}  // namespace sentencekv
