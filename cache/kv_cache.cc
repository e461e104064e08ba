#include "cache/kv_cache.h"

#include <algorithm>
#include <utility>

#include "kernels/check.h"
#include "kernels/status_macros.h"

namespace sentencekv {

SequenceLease::SequenceLease(PagePool& pool, KvPolicy& policy,
                             const KvOptions& options)
    : pool_(pool), policy_(policy) {
  sequence_.policy_state = policy.NewState(options);
}

SequenceLease::~SequenceLease() {
  policy_.OnRelease(sequence_);
  pool_.Release(sequence_.pages);
  pool_.ReleasePromised(promised_);
}

int64_t SequenceLease::num_pages() const {
  return static_cast<int64_t>(sequence_.pages.size()) + promised_;
}

int64_t SequenceLease::PagesMissing(int64_t num_tokens) const {
  return std::max<int64_t>(PagesFor(num_tokens) - num_pages(), 0);
}

absl::Status SequenceLease::Promise(int64_t num_tokens) {
  const int64_t missing = PagesMissing(num_tokens);
  SKV_RETURN_IF_ERROR(pool_.Promise(missing));
  promised_ += missing;
  return absl::OkStatus();
}

absl::Status SequenceLease::Reserve(int64_t num_tokens) {
  SKV_RETURN_IF_ERROR(Promise(num_tokens));
  const auto held = static_cast<int64_t>(sequence_.pages.size());
  const int64_t count = std::max<int64_t>(PagesFor(num_tokens) - held, 0);
  pool_.TakePromised(count, &sequence_.pages);
  promised_ -= count;
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(
    PagePool& pool, std::string_view default_policy,
    const KvPolicyContext& context) {
  SKV_RETURN_IF_ERROR(
      ValidateKvOptions({.policy = std::string(default_policy)}));
  PolicyMap policies;
  for (const std::string_view name : KvPolicyNames()) {
    SKV_ASSIGN_OR_RETURN(policies[std::string(name)],
                         MakeKvPolicy(name, context));
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
  return ValidateKvOptions(Named(options));
}

std::unique_ptr<SequenceLease> KvCache::Open(const KvOptions& options) {
  const auto policy = policies_.find(Named(options).policy);
  SKV_CHECK(policy != policies_.end());
  return std::make_unique<SequenceLease>(pool_, *policy->second, options);
}

KvOptions KvCache::Named(const KvOptions& options) const {
  KvOptions named = options;
  if (named.policy.empty()) named.policy = default_policy_;
  return named;
}

}  // namespace sentencekv
