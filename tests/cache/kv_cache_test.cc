#include "cache/kv_cache.h"

#include <string>

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
        cache_(*KvCache::Create(*pool_, "full", context_)) {}

  ByteTokenizer tokenizer_;
  const KvPolicyContext context_ = {
      .tokenizer = &tokenizer_,
      .shape = {
          .num_layers = 1, .num_heads = 1, .num_kv_heads = 1, .head_dim = 8}};
  MemoryBackend backend_;
  std::unique_ptr<PagePool> pool_;
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
  const auto cache = KvCache::Create(*pool_, "none", context_);
  EXPECT_EQ(cache.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(cache.status().message()), HasSubstr("full"));
}

}  // namespace
}  // namespace sentencekv
