#include "cache/kv_cache.h"

#include <algorithm>
#include <utility>

#include "kernels/check.h"
#include "kernels/status_macros.h"

namespace sentencekv {

SequenceLease::SequenceLease(KvMemory& memory, PrefixCache* prefixes,
                             KvPolicy& policy, const KvOptions& options,
                             const PrefixMatch& match)
    : memory_(memory),
      pool_(memory.pool()),
      prefixes_(prefixes),
      policy_(policy),
      salt_(options.cache_salt) {
  sequence_.policy_state = policy.NewState(options);
  if (match.num_tokens == 0) return;
  SKV_CHECK(prefixes_ != nullptr);
  for (const int32_t page : match.pages) pool_.Share(page);
  sequence_.pages = match.pages;
  if (match.copies_last()) {
    copy_source_ = sequence_.pages.back();
    sequence_.pages.pop_back();
  }
  sequence_.num_tokens = num_reused_ = match.num_tokens;
  registered_ = prefixes_->CursorAfter(sequence_.pages);
}

SequenceLease::~SequenceLease() {
  policy_.OnRelease(sequence_);
  memory_.Release(sequence_);
  pool_.Release(HeldPages());
  pool_.ReleasePromised(promised_);
}

std::vector<int32_t> SequenceLease::HeldPages() const {
  std::vector<int32_t> held = sequence_.pages;
  // It comes after the shared ones in its prefix, so it is released first.
  if (copy_source_.has_value()) held.push_back(*copy_source_);
  return held;
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

absl::Status SequenceLease::Begin(std::span<const int32_t> tokens) {
  if (num_reused_ == 0) return absl::OkStatus();
  const auto num_reused = static_cast<size_t>(std::exchange(num_reused_, 0));
  if (copy_source_.has_value()) {
    const int32_t destination = sequence_.pages[num_reused / kPageTokens];
    SKV_RETURN_IF_ERROR(memory_.CopyPage(*copy_source_, destination));
    pool_.Release({&*copy_source_, 1});
    copy_source_.reset();
  }
  return policy_.OnReuse(memory_, sequence_, tokens.first(num_reused));
}

void SequenceLease::Register(std::span<const int32_t> tokens) {
  if (prefixes_ == nullptr) return;
  prefixes_->Register(salt_, tokens, policy_.NumExact(sequence_), &registered_,
                      &sequence_.pages);
}

int64_t MaxReusable(const KvPolicy& policy, int64_t num_tokens,
                    int64_t num_prompt) {
  const int64_t replayed = policy.num_replayed();
  if (replayed == 1) return num_tokens - 1;
  return std::max<int64_t>(std::min(num_tokens - 1, num_prompt - replayed), 0);
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(
    KvMemory& memory, std::string_view default_policy,
    const KvPolicyContext& context, const PrefixCacheOptions& prefix_options) {
  SKV_RETURN_IF_ERROR(
      ValidateKvOptions({.policy = std::string(default_policy)}));
  PolicyMap policies;
  for (const std::string_view name : KvPolicyNames()) {
    SKV_ASSIGN_OR_RETURN(policies[std::string(name)],
                         MakeKvPolicy(name, context));
  }
  return std::unique_ptr<KvCache>(
      new KvCache(memory, default_policy, std::move(policies), prefix_options));
}

KvCache::KvCache(KvMemory& memory, std::string_view default_policy,
                 PolicyMap policies, const PrefixCacheOptions& prefix_options)
    : memory_(memory),
      default_policy_(default_policy),
      policies_(std::move(policies)),
      prefixes_(prefix_options.enabled ? std::make_unique<PrefixCache>(
                                             memory.pool(), prefix_options.hash)
                                       : nullptr) {}

absl::Status KvCache::Validate(const KvOptions& options) const {
  KvOptions named = options;
  if (named.policy.empty()) named.policy = default_policy_;
  return ValidateKvOptions(named);
}

bool KvCache::RepeatsOneByOne(const KvOptions& options) const {
  return PolicyFor(options).repeats_one_by_one();
}

PrefixMatch KvCache::Match(const KvOptions& options,
                           std::span<const int32_t> tokens, int64_t num_prompt,
                           int64_t max_tokens) const {
  if (!Reuses(options)) return {};
  max_tokens = std::min(
      max_tokens, MaxReusable(PolicyFor(options),
                              static_cast<int64_t>(tokens.size()), num_prompt));
  if (max_tokens <= 0) return {};
  return prefixes_->Match(options.cache_salt, tokens, max_tokens);
}

int64_t KvCache::PagesWanted(const PrefixMatch& match,
                             int64_t num_tokens) const {
  int64_t wanted = PagesFor(num_tokens);
  // A page that somebody uses is not free anyway.
  for (int64_t i = 0; i < match.num_shared(); ++i) {
    if (pool().references(match.pages[i]) > 0) --wanted;
  }
  // The source of a copy is held until it is copied.
  if (match.copies_last() && pool().references(match.pages.back()) == 0) {
    ++wanted;
  }
  return wanted;
}

std::unique_ptr<SequenceLease> KvCache::Open(const KvOptions& options,
                                             const PrefixMatch& match) {
  return std::make_unique<SequenceLease>(
      memory_, Reuses(options) ? prefixes_.get() : nullptr, PolicyFor(options),
      options, match);
}

int64_t KvCache::ResetPrefixes() {
  return prefixes_ == nullptr ? 0 : prefixes_->Reset() * kPageTokens;
}

void KvCache::ReadTotalsByPolicy(std::vector<PolicyReads>* out) const {
  out->clear();
  for (const auto& [name, policy] : policies_) {
    const ReadTotals* totals = policy->read_totals();
    if (totals != nullptr) out->push_back({policy->name(), *totals});
  }
}

KvPolicy& KvCache::PolicyFor(const KvOptions& options) const {
  const auto policy =
      policies_.find(options.policy.empty() ? default_policy_ : options.policy);
  SKV_CHECK(policy != policies_.end());
  return *policy->second;
}

}  // namespace sentencekv
