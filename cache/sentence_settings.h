// How the policy `sentence` reads a sequence; docs/sentences.md.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "cache/kv_policy.h"
#include "cache/sentence_selection.h"
#include "kernels/sentence_block.h"

namespace sentencekv {

// Of requests that say nothing: the budget, and up to where contexts are read
// as a whole, since there is little to gain below.
inline constexpr int64_t kDefaultSentenceBudget = 1024;
inline constexpr int64_t kDefaultSentenceDense = 4096;
// Most tokens of any setting: more than any model reads.
inline constexpr int64_t kMostSentenceTokens = int64_t{1} << 24;

// SentenceScoreItem::num_refined for a budget: so much behind it the means may
// be wrong about what is worth choosing (docs/quality.md).
constexpr int64_t NumRefined(int64_t budget) { return budget + 1024; }

// KvOptions with the defaults filled in.
struct SentenceSettings {
  SelectionLimits limits;
  SentenceIndexKind index_kind = SentenceIndexKind::kMean;
  bool prior = true;
  // Generated tokens after which the prior counts half: what the prompt's end
  // looked at says less and less of what is wanted now. 0: it never fades.
  int64_t prior_half_life = 64;
  // Weight of the mean query of the generated sentence in the query that
  // scores.
  float query_blend = 0;
  // Scores of the sentences that the step before has read are 1 + this as high.
  float reuse_bonus = 0;
  // Heads whose index misses much of the prompt's attention get more of the
  // budget (cache/head_budgets.h). Needs the prior.
  bool head_budgets = true;
  // A step reads what it chooses, not what the step before chose.
  bool strict = true;
  // Of each generated sentence; 0: no trace.
  int64_t trace_sources = 0;
};

// REQUIRES: ValidateSentenceOptions(options).
SentenceSettings SettingsOf(const KvOptions& options);
absl::Status ValidateSentenceOptions(const KvOptions& options);

}  // namespace sentencekv
