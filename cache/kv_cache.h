// The cache as the engine uses it: policies by name, and the pages that each
// sequence holds.
//
// Used by the engine thread; only Validate and stats may be called from any.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/kv_policy.h"
#include "cache/page_pool.h"

namespace sentencekv {

// One sequence's claim on the cache. Destroying it tells the policy and gives
// the pages back. Must not outlive its KvCache.
class SequenceLease {
 public:
  SequenceLease(PagePool& pool, KvPolicy& policy, const KvOptions& options);
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
  // Pages that the end of the lease would free, promised ones included.
  int64_t num_pages() const;
  // Holds pages for positions 0..num_tokens-1 afterwards. All or nothing:
  // kResourceExhausted when too few are free.
  absl::Status Reserve(int64_t num_tokens);

 private:
  PagePool& pool_;
  KvPolicy& policy_;
  CachedSequence sequence_;
  int64_t promised_ = 0;  // pages
};

class KvCache {
 public:
  // `pool` must outlive the cache. kInvalidArgument when there is no policy
  // of the name `default_policy`.
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(
      PagePool& pool, std::string_view default_policy,
      const KvPolicyContext& context);

  // kInvalidArgument for a policy that does not exist, or options that it does
  // not take.
  absl::Status Validate(const KvOptions& options) const;
  // A sequence without pages. REQUIRES: Validate(options).
  std::unique_ptr<SequenceLease> Open(const KvOptions& options);

  const PagePool& pool() const { return pool_; }
  PagePoolStats stats() const { return pool_.stats(); }

 private:
  using PolicyMap =
      std::map<std::string, std::unique_ptr<KvPolicy>, std::less<>>;

  KvCache(PagePool& pool, std::string_view default_policy, PolicyMap policies);
  // The options with the default policy's name where they have none.
  KvOptions Named(const KvOptions& options) const;

  PagePool& pool_;
  const std::string default_policy_;
  const PolicyMap policies_;  // every policy there is, by name
};

}  // namespace sentencekv
