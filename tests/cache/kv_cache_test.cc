#include "cache/kv_cache.h"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/memory_backend.h"
#include "tests/support/scripted_model.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;

class KvCacheTest : public ::testing::Test {
 protected:
  KvCacheTest()
      : pool_(*PagePool::Create(backend_, ScriptedModel::Layout(4))),
        memory_(MakeInPlaceKvMemory(*pool_)),
        cache_(*KvCache::Create(*memory_, "full", context_)) {}

  ByteTokenizer tokenizer_;
  const KvPolicyContext context_ = {
      .tokenizer = &tokenizer_,
      .shape = {
          .num_layers = 1, .num_heads = 1, .num_kv_heads = 1, .head_dim = 8}};
  MemoryBackend backend_;
  std::unique_ptr<PagePool> pool_;
  std::unique_ptr<KvMemory> memory_;
  std::unique_ptr<KvCache> cache_;
};

TEST_F(KvCacheTest, GivesPagesBackWithTheLease) {
  {
    auto lease = cache_->Open({});
    EXPECT_EQ(lease->policy().name(), "full");
    EXPECT_EQ(cache_->stats().used, 0);
    EXPECT_TRUE(lease->Reserve(kPageTokens + 1).ok());
    EXPECT_EQ(lease->sequence().pages.size(), 2u);
    EXPECT_EQ(cache_->stats().used, 2);
  }
  EXPECT_EQ(cache_->stats().used, 0);
  pool_->CheckInvariantsForTest();
}

TEST_F(KvCacheTest, ReservesOnlyWhatIsMissing) {
  auto lease = cache_->Open({});
  EXPECT_EQ(lease->PagesMissing(0), 0);
  EXPECT_EQ(lease->PagesMissing(1), 1);
  EXPECT_EQ(lease->PagesMissing(kPageTokens), 1);
  ASSERT_TRUE(lease->Reserve(kPageTokens).ok());
  EXPECT_EQ(lease->PagesMissing(kPageTokens), 0);
  EXPECT_EQ(lease->PagesMissing(3), 0);
  EXPECT_EQ(lease->PagesMissing(kPageTokens + 1), 1);
  ASSERT_TRUE(lease->Reserve(1).ok());
  EXPECT_EQ(cache_->stats().used, 1);
}

TEST_F(KvCacheTest, TakesNothingWhenTooFewAreFree) {
  auto first = cache_->Open({});
  auto second = cache_->Open({});
  ASSERT_TRUE(first->Reserve(3 * kPageTokens).ok());
  EXPECT_EQ(second->Reserve(2 * kPageTokens).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(second->sequence().pages.empty());
  EXPECT_TRUE(second->Reserve(kPageTokens).ok());
}

TEST_F(KvCacheTest, KeepsItsPromise) {
  {
    auto prompt = cache_->Open({});
    ASSERT_TRUE(prompt->Promise(3 * kPageTokens).ok());
    EXPECT_EQ(prompt->num_pages(), 3);
    EXPECT_EQ(prompt->PagesMissing(3 * kPageTokens), 0);
    EXPECT_EQ(prompt->PagesMissing(3 * kPageTokens + 1), 1);
    auto other = cache_->Open({});
    EXPECT_EQ(other->Reserve(2 * kPageTokens).code(),
              absl::StatusCode::kResourceExhausted);
    ASSERT_TRUE(prompt->Reserve(kPageTokens + 1).ok());
    EXPECT_EQ(prompt->sequence().pages.size(), 2u);
    EXPECT_EQ(prompt->num_pages(), 3);
    EXPECT_EQ(cache_->stats().used, 3);
    pool_->CheckInvariantsForTest();
  }
  EXPECT_EQ(cache_->stats().used, 0);
  pool_->CheckInvariantsForTest();
}

// --- reuse ---

std::vector<int32_t> Tokens(int64_t count) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(100 + i);
  return tokens;
}

// Selects while it decodes, and wants the last queries of the prompt.
class ReplayingPolicy final : public KvPolicy {
 public:
  explicit ReplayingPolicy(int64_t num_replayed) : replayed_(num_replayed) {}
  std::string_view name() const override { return "replaying"; }
  std::unique_ptr<PolicyState> NewState(const KvOptions&) const override {
    return nullptr;
  }
  int64_t num_replayed() const override { return replayed_; }
  absl::Status OnReuse(KvMemory&, CachedSequence& sequence,
                       std::span<const int32_t> tokens) override {
    EXPECT_EQ(sequence.num_tokens, static_cast<int64_t>(tokens.size()));
    reused.emplace_back(tokens.begin(), tokens.end());
    return status;
  }
  void OnAppend(std::span<const StepSequence>) override {}
  absl::Status Attend(KvMemory&, const AttendInput&) override {
    return absl::OkStatus();
  }
  void OnRelease(CachedSequence&) override {}

  std::vector<std::vector<int32_t>> reused;
  absl::Status status;

 private:
  const int64_t replayed_;
};

// What the engine does with a sequence, from its first step to its end.
void RunThrough(KvCache& cache, const std::vector<int32_t>& tokens,
                const KvOptions& options = {}) {
  const auto count = static_cast<int64_t>(tokens.size());
  auto lease = cache.Open(options, cache.Match(options, tokens, count, count));
  ASSERT_TRUE(lease->Reserve(count).ok());
  ASSERT_TRUE(lease->Begin(tokens).ok());
  lease->sequence().num_prompt = lease->sequence().num_tokens = count;
  lease->Register(tokens);
}

TEST_F(KvCacheTest, ASequenceLeavesItsWholePages) {
  const std::vector<int32_t> tokens = Tokens(2 * kPageTokens + 5);
  RunThrough(*cache_, tokens);
  EXPECT_EQ(cache_->stats().used, 0);
  EXPECT_EQ(cache_->stats().cached, 2);
  const PrefixMatch match = cache_->Match({}, tokens, tokens.size(), 1000);
  EXPECT_EQ(match.num_tokens, 2 * kPageTokens);
  EXPECT_EQ(cache_->PagesWanted(match, tokens.size()), 3);
  auto lease = cache_->Open({}, match);
  EXPECT_EQ(lease->sequence().num_tokens, 2 * kPageTokens);
  EXPECT_EQ(lease->sequence().pages, match.pages);
  EXPECT_EQ(cache_->stats().used, 2);
  EXPECT_EQ(cache_->PagesWanted(match, tokens.size()), 1);
  ASSERT_TRUE(lease->Reserve(tokens.size()).ok());
  EXPECT_EQ(cache_->stats().used, 3);
  EXPECT_EQ(cache_->ResetPrefixes(), 0);
  lease.reset();
  EXPECT_EQ(cache_->ResetPrefixes(), 2 * kPageTokens);
}

// All of a prompt is known, but its last token is computed again: the page it
// lies in belongs to others and is copied.
TEST_F(KvCacheTest, CopiesAPageThatWillBeWrittenAgain) {
  const std::vector<int32_t> tokens = Tokens(2 * kPageTokens);
  RunThrough(*cache_, tokens);
  const PrefixMatch match = cache_->Match({}, tokens, tokens.size(), 1000);
  EXPECT_EQ(match.num_tokens, 2 * kPageTokens - 1);
  EXPECT_EQ(cache_->PagesWanted(match, tokens.size()), 3);
  std::memset(pool_->layer(0).head(match.pages[1], 0), 0x5a, 8);
  auto lease = cache_->Open({}, match);
  EXPECT_EQ(lease->HeldPages(), match.pages);
  EXPECT_EQ(lease->sequence().pages.size(), 1u);
  ASSERT_TRUE(lease->Reserve(tokens.size()).ok());
  EXPECT_EQ(cache_->stats().used, 3);
  ASSERT_TRUE(lease->Begin(tokens).ok());
  EXPECT_EQ(cache_->stats().used, 2);
  const int32_t copy = lease->sequence().pages[1];
  EXPECT_NE(copy, match.pages[1]);
  EXPECT_EQ(std::memcmp(pool_->layer(0).head(copy, 0),
                        pool_->layer(0).head(match.pages[1], 0), 8),
            0);
  ASSERT_TRUE(lease->Begin(tokens).ok());
  EXPECT_EQ(backend_.num_page_copies(), 1) << "once";
  // When it is complete it is known already: the copy is given up.
  lease->sequence().num_tokens = 2 * kPageTokens;
  lease->Register(tokens);
  EXPECT_EQ(lease->sequence().pages[1], match.pages[1]);
  EXPECT_EQ(cache_->stats().used, 2);
  lease.reset();
  EXPECT_EQ(cache_->stats().cached, 2);
  pool_->CheckInvariantsForTest();
  cache_->prefixes()->CheckInvariantsForTest();
}

TEST_F(KvCacheTest, ALeaseThatNeverBeganGivesTheSourceOfItsCopyBack) {
  const std::vector<int32_t> tokens = Tokens(2 * kPageTokens);
  RunThrough(*cache_, tokens);
  cache_->Open({}, cache_->Match({}, tokens, tokens.size(), 1000)).reset();
  EXPECT_EQ(cache_->stats().cached, 2);
  pool_->CheckInvariantsForTest();
  cache_->prefixes()->CheckInvariantsForTest();
}

TEST_F(KvCacheTest, AFailedCopyIsTold) {
  const std::vector<int32_t> tokens = Tokens(kPageTokens);
  RunThrough(*cache_, tokens);
  auto lease = cache_->Open({}, cache_->Match({}, tokens, tokens.size(), 1000));
  ASSERT_TRUE(lease->Reserve(tokens.size()).ok());
  backend_.FailPageCopies(absl::DataLossError("the device is gone"));
  EXPECT_EQ(lease->Begin(tokens).code(), absl::StatusCode::kDataLoss);
  lease.reset();
  EXPECT_EQ(cache_->stats().used, 0);
  pool_->CheckInvariantsForTest();
}

TEST_F(KvCacheTest, BypassNeitherFindsNorLeaves) {
  const std::vector<int32_t> tokens = Tokens(2 * kPageTokens);
  const KvOptions bypass = {.bypass_prefix_cache = true};
  EXPECT_FALSE(cache_->Reuses(bypass));
  RunThrough(*cache_, tokens, bypass);
  EXPECT_EQ(cache_->stats().cached, 0);
  RunThrough(*cache_, tokens);
  EXPECT_EQ(cache_->stats().cached, 2);
  EXPECT_EQ(cache_->Match(bypass, tokens, tokens.size(), 1000).num_tokens, 0);
  const KvOptions salted = {.cache_salt = "other"};
  EXPECT_EQ(cache_->Match(salted, tokens, tokens.size(), 1000).num_tokens, 0);
}

TEST_F(KvCacheTest, ReusesNothingWhenTurnedOff) {
  cache_.reset();
  cache_ = *KvCache::Create(*memory_, "full", context_, {.enabled = false});
  const std::vector<int32_t> tokens = Tokens(2 * kPageTokens);
  RunThrough(*cache_, tokens);
  EXPECT_EQ(cache_->stats().cached, 0);
  EXPECT_EQ(cache_->prefixes(), nullptr);
  EXPECT_EQ(cache_->Match({}, tokens, tokens.size(), 1000).num_tokens, 0);
  EXPECT_EQ(cache_->ResetPrefixes(), 0);
}

TEST_F(KvCacheTest, APolicyIsToldOnceOfWhatItDoesNotCompute) {
  const std::vector<int32_t> tokens = Tokens(3 * kPageTokens);
  cache_.reset();  // a pool has one keeper
  PrefixCache prefixes(*pool_, HashPage);
  ReplayingPolicy policy(18);
  {
    SequenceLease lease(*memory_, &prefixes, policy, {}, {});
    ASSERT_TRUE(lease.Reserve(tokens.size()).ok());
    ASSERT_TRUE(lease.Begin(tokens).ok());
    EXPECT_TRUE(policy.reused.empty());
    // Two pages of prompt; the third is generated, and not what exact
    // attention would have made of it.
    lease.sequence().num_prompt = 2 * kPageTokens + 3;
    lease.sequence().num_tokens = 3 * kPageTokens;
    lease.Register(tokens);
  }
  EXPECT_EQ(pool_->stats().cached, 2);
  SequenceLease lease(*memory_, &prefixes, policy, {},
                      prefixes.Match("", tokens, 30));
  ASSERT_TRUE(lease.Reserve(tokens.size()).ok());
  policy.status = absl::InternalError("no index");
  EXPECT_EQ(lease.Begin(tokens), policy.status);
  EXPECT_TRUE(lease.Begin(tokens).ok());
  ASSERT_EQ(policy.reused.size(), 1u);
  EXPECT_EQ(policy.reused[0], Tokens(30));
}

TEST(MaxReusable, LeavesWhatThePolicyReplays) {
  EXPECT_EQ(MaxReusable(ReplayingPolicy(1), 100, 100), 99);
  EXPECT_EQ(MaxReusable(ReplayingPolicy(1), 140, 100), 139) << "preempted";
  EXPECT_EQ(MaxReusable(ReplayingPolicy(32), 100, 100), 68);
  EXPECT_EQ(MaxReusable(ReplayingPolicy(32), 140, 100), 68) << "preempted";
  EXPECT_EQ(MaxReusable(ReplayingPolicy(32), 20, 20), 0);
  EXPECT_EQ(MaxReusable(ReplayingPolicy(1), 1, 1), 0);
}

TEST_F(KvCacheTest, ValidatesPolicyAndOptions) {
  struct Case {
    KvOptions options;
    const char* message;  // null: valid
  };
  const Case cases[] = {
      {{}, nullptr},
      {{.policy = "full"}, nullptr},
      {{.policy = "fulll"}, "'fulll'"},
      {{.token_budget = 7}, "kv.token_budget"},
      {{.policy = "sentence-paper"}, nullptr},
      {{.policy = "sentence-paper", .token_budget = 64, .semantic_factor = 1},
       nullptr},
      {{.policy = "sentence-paper", .token_budget = 63},
       "kv.token_budget: policy sentence-paper needs 64 to 2147483647 tokens, "
       "got 63"},
      {{.policy = "sentence-paper", .semantic_factor = 0.5},
       "kv.semantic_factor: policy sentence-paper needs 1 to 1000, got 0.5"},
      {{.policy = "sentence-paper", .semantic_factor = NAN},
       "kv.semantic_factor"},
      {{.policy = "full", .semantic_factor = 2}, "kv.semantic_factor"},
  };
  for (const Case& c : cases) {
    const absl::Status status = cache_->Validate(c.options);
    if (c.message == nullptr) {
      EXPECT_TRUE(status.ok()) << status;
    } else {
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
    }
  }
}

TEST_F(KvCacheTest, RefusesAnUnknownDefaultPolicy) {
  const auto cache = KvCache::Create(*memory_, "none", context_);
  EXPECT_EQ(cache.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(cache.status().message()), HasSubstr("full"));
}

}  // namespace
}  // namespace sentencekv
