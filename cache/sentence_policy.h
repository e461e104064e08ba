// `sentence`: each decode step attends to the sentences that its query asks
// for, within a token budget. docs/sentences.md tells how.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "cache/kv_policy.h"

namespace sentencekv {

// Of requests that say nothing: the budget, and up to where contexts are read
// as a whole, since there is little to gain below.
inline constexpr int64_t kDefaultSentenceBudget = 1024;
inline constexpr int64_t kDefaultSentenceDense = 4096;
// Most tokens of any setting: more than any model reads.
inline constexpr int64_t kMostSentenceTokens = int64_t{1} << 24;

std::unique_ptr<KvPolicy> MakeSentencePolicy(const KvPolicyContext& context);
absl::Status ValidateSentenceOptions(const KvOptions& options);

}  // namespace sentencekv
