#include "cache/kv_cache.h"

#include <algorithm>
#include <utility>

#include "kernels/check.h"

namespace sentencekv {

SequenceLease::SequenceLease(PagePool& pool, KvPolicy& policy,
                             const KvOptions& options)
    : pool_(pool), policy_(policy) {
  sequence_.policy_state = policy.NewState(options);
}

SequenceLease::~SequenceLease() {
  policy_.OnRelease(sequence_);
  pool_.Release(sequence_.pages);
}

int64_t SequenceLease::PagesMissing(int64_t num_tokens) const {
  const int64_t held = static_cast<int64_t>(sequence_.pages.size());
  return std::max<int64_t>(PagesFor(num_tokens) - held, 0);
}

absl::Status SequenceLease::Reserve(int64_t num_tokens) {
  return pool_.Take(PagesMissing(num_tokens), &sequence_.pages);
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(
    PagePool& pool, std::string_view default_policy) {
  if (auto policy = MakeKvPolicy(default_policy); !policy.ok()) {
    return policy.status();
  }
  PolicyMap policies;
  for (const std::string_view name : KvPolicyNames()) {
    auto policy = MakeKvPolicy(name);
    if (!policy.ok()) return policy.status();
    policies.emplace(name, *std::move(policy));
  }
  return std::unique_ptr<KvCache>(
      new KvCache(pool, default_policy, std::move(policies)));
}

KvCache::KvCache(PagePool& pool, std::string_view default_policy,
                 PolicyMap policies)
    : pool_(pool),
      default_policy_(default_policy),
      policies_(std::move(policies)) {}

absl::Status KvCache::Validate(const KvOptions& options) const {
  const KvPolicy* policy = Find(options);
  // MakeKvPolicy's error lists the names there are.
  if (policy == nullptr) return MakeKvPolicy(options.policy).status();
  return policy->Validate(options);
}

std::unique_ptr<SequenceLease> KvCache::Open(const KvOptions& options) {
  KvPolicy* policy = Find(options);
  SKV_CHECK(policy != nullptr);
  return std::make_unique<SequenceLease>(pool_, *policy, options);
}

KvPolicy* KvCache::Find(const KvOptions& options) const {
  const auto entry =
      policies_.find(options.policy.empty() ? default_policy_ : options.policy);
  return entry == policies_.end() ? nullptr : entry->second.get();
}

}  // namespace sentencekv
