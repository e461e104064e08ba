// The cache as the engine uses it: policies by name, the pages that each
// sequence holds, and those that ended sequences left for others.
//
// Used by the engine thread; only Validate and stats may be called from any.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/kv_memory.h"
#include "cache/kv_policy.h"
#include "cache/page_pool.h"
#include "cache/prefix_cache.h"

namespace sentencekv {

// One sequence's claim on the cache. Destroying it tells the policy and gives
// the pages back. Must not outlive its KvCache.
class SequenceLease {
 public:
  // `prefixes` is null for a sequence that neither finds nor leaves pages;
  // then `match` must be empty. Shares the pages of `match`:
  // sequence().num_tokens are reused.
  SequenceLease(KvMemory& memory, PrefixCache* prefixes, KvPolicy& policy,
                const KvOptions& options, const PrefixMatch& match);
  ~SequenceLease();
  SequenceLease(const SequenceLease&) = delete;
  SequenceLease& operator=(const SequenceLease&) = delete;

  CachedSequence& sequence() { return sequence_; }
  const CachedSequence& sequence() const { return sequence_; }
  KvPolicy& policy() { return policy_; }

  // Free pages that Reserve(num_tokens) would need.
  int64_t PagesMissing(int64_t num_tokens) const;
  // Makes sure that Reserve(num_tokens) will succeed, without taking the pages
  // yet. kResourceExhausted when too few are free.
  absl::Status Promise(int64_t num_tokens);
  // Pages in the table and promised ones.
  int64_t num_pages() const;
  int64_t num_promised() const { return promised_; }
  // Every page that the lease has a reference to.
  std::vector<int32_t> HeldPages() const;
  // Holds pages for positions 0..num_tokens-1 afterwards. All or nothing:
  // kResourceExhausted when too few are free.
  absl::Status Reserve(int64_t num_tokens);

  // Before the first step: copies the page that is reused in part, and tells
  // the policy of what is reused. Does nothing the second time. REQUIRES: pages
  // are reserved for more tokens than are reused; `tokens` are the sequence's.
  absl::Status Begin(std::span<const int32_t> tokens);
  // After a step: offers the pages that are complete to other sequences.
  void Register(std::span<const int32_t> tokens);

 private:
  KvMemory& memory_;
  PagePool& pool_;
  PrefixCache* const prefixes_;
  KvPolicy& policy_;
  const std::string salt_;
  CachedSequence sequence_;
  int64_t promised_ = 0;  // pages
  PrefixCache::Cursor registered_;
  int64_t num_reused_ = 0;              // tokens that Begin has to tell of
  std::optional<int32_t> copy_source_;  // of the page after the shared ones
};

// Most tokens of a sequence that need not be computed when their K and V are
// known. The logits of the last token are always wanted, and that is all when
// the policy replays one; when it replays more it wants the queries of the
// prompt's end, after a preemption too. REQUIRES: num_tokens >= num_prompt
// >= 1.
int64_t MaxReusable(const KvPolicy& policy, int64_t num_tokens,
                    int64_t num_prompt);

// What the decode steps of a policy have read since the start.
struct PolicyReads {
  std::string_view policy;  // outlives the cache
  ReadTotals totals;
};

class KvCache {
 public:
  // `memory` must outlive the cache. kInvalidArgument when there is no policy
  // of the name `default_policy`.
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(
      KvMemory& memory, std::string_view default_policy,
      const KvPolicyContext& context,
      const PrefixCacheOptions& prefix_options = {});

  // kInvalidArgument for a policy that does not exist, or options that it does
  // not take.
  absl::Status Validate(const KvOptions& options) const;
  // Whether sequences with these options reuse pages at all.
  bool Reuses(const KvOptions& options) const {
    return prefixes_ != nullptr && !options.bypass_prefix_cache;
  }
  // KvPolicy::repeats_one_by_one of the options' policy. REQUIRES:
  // Validate(options).
  bool RepeatsOneByOne(const KvOptions& options) const;
  // What a sequence of `tokens`, the first `num_prompt` of them its prompt, may
  // begin with: at most `max_tokens`, and never what the policy wants computed.
  // Takes nothing: valid until Reserve, or the end of a lease.
  // REQUIRES: Validate(options).
  PrefixMatch Match(const KvOptions& options, std::span<const int32_t> tokens,
                    int64_t num_prompt, int64_t max_tokens) const;
  // Free pages that it takes to open a sequence with `match` and to promise it
  // pages for `num_tokens`.
  int64_t PagesWanted(const PrefixMatch& match, int64_t num_tokens) const;
  // A sequence with the pages of `match`. REQUIRES: Validate(options).
  std::unique_ptr<SequenceLease> Open(const KvOptions& options,
                                      const PrefixMatch& match = {});
  // Forgets all pages that no sequence uses; the tokens in them.
  int64_t ResetPrefixes();

  // What the decode steps of each policy have read, of policies that count it.
  void ReadTotalsByPolicy(std::vector<PolicyReads>* out) const;

  KvMemory& memory() { return memory_; }
  const PagePool& pool() const { return memory_.pool(); }
  // Null when no pages are reused.
  const PrefixCache* prefixes() const { return prefixes_.get(); }
  PagePoolStats stats() const { return pool().stats(); }

 private:
  using PolicyMap =
      std::map<std::string, std::unique_ptr<KvPolicy>, std::less<>>;

  KvCache(KvMemory& memory, std::string_view default_policy, PolicyMap policies,
          const PrefixCacheOptions& prefix_options);
  // REQUIRES: Validate(options).
  KvPolicy& PolicyFor(const KvOptions& options) const;

  KvMemory& memory_;
  const std::string default_policy_;
  const PolicyMap policies_;  // every policy there is, by name
  const std::unique_ptr<PrefixCache> prefixes_;
};

}  // namespace sentencekv
