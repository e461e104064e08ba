#include "cache/page_pool.h"

#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/memory_backend.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;

KvLayout SmallLayout(int64_t num_pages) {
  KvLayout layout;
  layout.num_layers = 2;
  layout.num_pages = num_pages;
  layout.num_kv_heads = 3;
  layout.head_dim = 4;
  return layout;
}

std::unique_ptr<PagePool> MakePool(Backend& backend, int64_t num_pages) {
  auto pool = PagePool::Create(backend, SmallLayout(num_pages));
  EXPECT_TRUE(pool.ok()) << pool.status();
  return *std::move(pool);
}

TEST(PagePool, StartsWithAllPagesFreeAndItsMemoryAllocated) {
  MemoryBackend backend;
  {
    auto pool = MakePool(backend, 5);
    EXPECT_EQ(pool->stats().total, 5);
    EXPECT_EQ(pool->stats().free, 5);
    EXPECT_EQ(pool->stats().used, 0);
    EXPECT_EQ(backend.allocated_bytes(),
              static_cast<size_t>(pool->layout().total_bytes()));
    pool->CheckInvariantsForTest();
  }
  EXPECT_EQ(backend.allocated_bytes(), 0u);
}

// A long prompt is sure of its pages, and takes them one after the other.
TEST(PagePool, PromisedPagesAreNotFree) {
  MemoryBackend backend;
  auto pool = MakePool(backend, 5);
  ASSERT_TRUE(pool->Promise(3).ok());
  EXPECT_EQ(pool->num_free(), 2);
  EXPECT_EQ(pool->stats().used, 3);
  pool->CheckInvariantsForTest();
  std::vector<int32_t> others;
  EXPECT_EQ(pool->Take(3, &others).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(pool->Promise(3).code(), absl::StatusCode::kResourceExhausted);
  ASSERT_TRUE(pool->Take(1, &others).ok());
  std::vector<int32_t> pages;
  pool->TakePromised(2, &pages);
  // In the order of use, not of the promise.
  EXPECT_EQ(others, std::vector<int32_t>({0}));
  EXPECT_EQ(pages, std::vector<int32_t>({1, 2}));
  EXPECT_EQ(pool->num_free(), 1);
  pool->CheckInvariantsForTest();
  pool->ReleasePromised(1);
  EXPECT_EQ(pool->num_free(), 2);
  pool->CheckInvariantsForTest();
}

TEST(PagePool, TakesAllOrNothing) {
  MemoryBackend backend;
  auto pool = MakePool(backend, 5);
  std::vector<int32_t> pages;
  ASSERT_TRUE(pool->Take(3, &pages).ok());
  const absl::Status status = pool->Take(3, &pages);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("3 pages are wanted"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("2 are free"));
  EXPECT_EQ(pages.size(), 3u);
  EXPECT_EQ(pool->stats().used, 3);
  EXPECT_TRUE(pool->Take(0, &pages).ok());
  ASSERT_TRUE(pool->Take(2, &pages).ok());
  EXPECT_EQ(std::set<int32_t>(pages.begin(), pages.end()).size(), 5u);
  EXPECT_EQ(pool->num_free(), 0);
  pool->CheckInvariantsForTest();
}

TEST(PagePool, FreesASharedPageWithItsLastReference) {
  MemoryBackend backend;
  auto pool = MakePool(backend, 2);
  std::vector<int32_t> pages;
  ASSERT_TRUE(pool->Take(1, &pages).ok());
  pool->Share(pages[0]);
  EXPECT_EQ(pool->references(pages[0]), 2);
  pool->Release(pages);
  EXPECT_EQ(pool->stats().free, 1);
  pool->Release(pages);
  EXPECT_EQ(pool->stats().free, 2);
  pool->CheckInvariantsForTest();
}

TEST(PagePool, LayersLieBehindEachOther) {
  MemoryBackend backend;
  auto pool = MakePool(backend, 4);
  const KvLayerView first = pool->layer(0);
  const KvLayerView second = pool->layer(1);
  EXPECT_EQ(second.base - first.base, pool->layout().layer_bytes());
  // The end of the last head of the last page is the end of the layer.
  EXPECT_EQ(first.head(3, 2) + pool->layout().head_bytes(), second.base);
}

TEST(PagePool, RefusesBadLayoutsByFieldAndValue) {
  struct Case {
    const char* field;
    int64_t KvLayout::*member;
    int64_t value;
  };
  const Case cases[] = {
      {"num_layers", &KvLayout::num_layers, 0},
      {"num_pages", &KvLayout::num_pages, 0},
      {"num_pages", &KvLayout::num_pages, -7},
      {"num_pages", &KvLayout::num_pages, int64_t{1} << 31},
      {"num_kv_heads", &KvLayout::num_kv_heads, -1},
      {"head_dim", &KvLayout::head_dim, 0},
      {"head_dim", &KvLayout::head_dim, INT64_MAX},
      {"num_kv_heads", &KvLayout::num_kv_heads, INT64_MAX / 2},
  };
  MemoryBackend backend;
  for (const Case& c : cases) {
    SCOPED_TRACE(testing::Message() << c.field << " = " << c.value);
    KvLayout layout = SmallLayout(4);
    layout.*c.member = c.value;
    const auto pool = PagePool::Create(backend, layout);
    EXPECT_EQ(pool.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(pool.status().message()), HasSubstr(c.field));
    EXPECT_THAT(std::string(pool.status().message()),
                HasSubstr(std::to_string(c.value)));
  }
  EXPECT_EQ(backend.allocated_bytes(), 0u);
}

TEST(PagePool, SaysHowMuchMemoryThereIsNot) {
  MemoryBackend backend(/*limit_bytes=*/1000);
  const auto pool = PagePool::Create(backend, SmallLayout(1000));
  EXPECT_EQ(pool.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(pool.status().message()),
              HasSubstr(std::to_string(SmallLayout(1000).total_bytes())));
}

TEST(PagePoolDeathTest, AbortsOnReleaseOfAFreePage) {
  MemoryBackend backend;
  auto pool = MakePool(backend, 2);
  const std::vector<int32_t> pages = {1};
  EXPECT_DEATH(pool->Release(pages), "check failed");
  EXPECT_DEATH(pool->Share(1), "check failed");
}

// Any mix of operations agrees with a map from page to reference count.
TEST(PagePool, AgreesWithANaiveModelUnderRandomOperations) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    MemoryBackend backend;
    const int64_t num_pages = 1 + random() % 40;
    auto pool = MakePool(backend, num_pages);
    std::map<int32_t, int32_t> model;  // page -> references, when any
    for (int step = 0; step < 400; ++step) {
      const uint32_t operation = random() % 4;
      if (operation == 0) {
        const int64_t count = random() % 8;
        std::vector<int32_t> pages;
        const bool fits =
            count <= num_pages - static_cast<int64_t>(model.size());
        ASSERT_EQ(pool->Take(count, &pages).ok(), fits);
        ASSERT_EQ(pages.size(), fits ? static_cast<size_t>(count) : 0u);
        for (int32_t page : pages) ASSERT_TRUE(model.emplace(page, 1).second);
      } else if (!model.empty()) {
        auto entry = std::next(model.begin(), random() % model.size());
        if (operation == 1) {
          pool->Share(entry->first);
          ++entry->second;
        } else {
          const int32_t page[] = {entry->first};
          pool->Release(page);
          if (--entry->second == 0) model.erase(entry);
        }
      }
      pool->CheckInvariantsForTest();
      ASSERT_EQ(pool->stats().used, static_cast<int64_t>(model.size()));
      for (const auto& [page, references] : model) {
        ASSERT_EQ(pool->references(page), references);
      }
    }
  }
}

}  // namespace
}  // namespace sentencekv
