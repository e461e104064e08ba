#include "cache/prefix_cache.h"

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/memory_backend.h"
#include "tests/support/scripted_model.h"

namespace sentencekv {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Tokens = std::vector<int32_t>;

// Everything collides with everything.
uint64_t WeakHash(uint64_t, std::span<const int32_t>) { return 7; }

// `first`, `first` + 1, ... for `num_pages` whole pages.
Tokens Text(int32_t first, int64_t num_pages) {
  Tokens tokens(static_cast<size_t>(num_pages * kPageTokens));
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = first + static_cast<int32_t>(i);
  }
  return tokens;
}

Tokens Join(Tokens tokens, const Tokens& more) {
  tokens.insert(tokens.end(), more.begin(), more.end());
  return tokens;
}

// A sequence as a lease would hold it.
struct Sequence {
  Tokens tokens;
  std::string salt;
  std::vector<int32_t> pages;
  PrefixCache::Cursor cursor;
};

class PrefixCacheTest : public ::testing::TestWithParam<PageHash> {
 protected:
  explicit PrefixCacheTest(int64_t num_pages = 8)
      : pool_(*PagePool::Create(backend_, ScriptedModel::Layout(num_pages))),
        cache_(std::make_unique<PrefixCache>(*pool_, GetParam())) {}

  int64_t Matched(const Tokens& tokens, std::string_view salt = "") {
    return cache_->Match(salt, tokens, tokens.size()).num_tokens;
  }

  // Shares what is known of `tokens`, takes the other pages, registers all.
  Sequence Hold(const Tokens& tokens, const std::string& salt = "") {
    Sequence sequence = Compute(tokens, salt);
    Register(sequence);
    return sequence;
  }
  Sequence Compute(const Tokens& tokens, const std::string& salt = "") {
    Sequence sequence = {tokens, salt, {}, {}};
    sequence.pages = cache_->Match(salt, tokens, tokens.size()).pages;
    for (const int32_t page : sequence.pages) pool_->Share(page);
    sequence.cursor = cache_->CursorAfter(sequence.pages);
    const auto known = static_cast<int64_t>(sequence.pages.size());
    const auto all = static_cast<int64_t>(tokens.size());
    EXPECT_TRUE(pool_->Take(PagesFor(all) - known, &sequence.pages).ok());
    return sequence;
  }
  void Register(Sequence& sequence) {
    cache_->Register(sequence.salt, sequence.tokens,
                     static_cast<int64_t>(sequence.tokens.size()),
                     &sequence.cursor, &sequence.pages);
    Check();
  }
  void Drop(const Sequence& sequence) {
    pool_->Release(sequence.pages);
    Check();
  }
  // A sequence that came, left its pages and went.
  void Leave(const Tokens& tokens, const std::string& salt = "") {
    Drop(Hold(tokens, salt));
  }
  void Check() {
    pool_->CheckInvariantsForTest();
    cache_->CheckInvariantsForTest();
  }

  MemoryBackend backend_;
  std::unique_ptr<PagePool> pool_;
  std::unique_ptr<PrefixCache> cache_;
};

TEST_P(PrefixCacheTest, FindsTheLongestPrefixInWholePages) {
  const Tokens document = Text(100, 3);
  EXPECT_EQ(Matched(document), 0);
  Leave(document);
  EXPECT_EQ(Matched(document), 48);
  EXPECT_EQ(Matched(Join(document, {1, 2})), 48);
  EXPECT_EQ(Matched(Tokens(document.begin(), document.begin() + 40)), 32);
  EXPECT_EQ(Matched(Tokens(document.begin(), document.begin() + 15)), 0);
  Tokens other = document;
  other[20] = 7;
  EXPECT_EQ(Matched(other), 16);
  other[0] = 7;
  EXPECT_EQ(Matched(other), 0);
  EXPECT_EQ(pool_->stats().used, 0);
  EXPECT_EQ(pool_->stats().free, 8);
  EXPECT_EQ(pool_->stats().cached, 3);
}

// The same tokens at another place are not the same page.
TEST_P(PrefixCacheTest, APageIsKnownByAllThatComesBeforeIt) {
  const Tokens a = Text(0, 1), b = Text(1000, 1), tail = Text(2000, 1);
  Leave(Join(a, tail));
  EXPECT_EQ(Matched(Join(b, tail)), 0);
  EXPECT_EQ(Matched(tail), 0);
  Leave(b);
  EXPECT_EQ(Matched(Join(b, tail)), 16);
  EXPECT_EQ(Matched(Join(a, tail)), 32);
}

TEST_P(PrefixCacheTest, SaltsAreApart) {
  const Tokens document = Text(0, 2);
  Leave(document, "one");
  EXPECT_EQ(Matched(document), 0);
  EXPECT_EQ(Matched(document, "two"), 0);
  EXPECT_EQ(Matched(document, "one"), 32);
  Leave(document, "two");
  EXPECT_EQ(cache_->num_pages(), 4);
  EXPECT_EQ(cache_->Reset(), 4);
  Check();
  EXPECT_EQ(Matched(document, "one"), 0);
}

TEST_P(PrefixCacheTest, ALimitInsideAPageAsksForACopy) {
  const Tokens document = Text(0, 3);
  Leave(document);
  PrefixMatch match = cache_->Match("", document, 47);
  EXPECT_EQ(match.num_tokens, 47);
  EXPECT_EQ(match.pages.size(), 3u);
  EXPECT_EQ(match.num_shared(), 2);
  EXPECT_TRUE(match.copies_last());
  match.DropCopy();
  EXPECT_EQ(match.num_tokens, 32);
  EXPECT_EQ(match.pages.size(), 2u);
  EXPECT_FALSE(match.copies_last());
  // The tail replayed may be longer than a page.
  match = cache_->Match("", document, 20);
  EXPECT_EQ(match.num_tokens, 20);
  EXPECT_EQ(match.pages.size(), 2u);
  EXPECT_EQ(cache_->Match("", document, 16).pages.size(), 1u);
  EXPECT_THAT(cache_->Match("", document, 0).pages, IsEmpty());
}

// Two that computed the same side by side end with the same pages.
TEST_P(PrefixCacheTest, EqualPrefixesLieInThePoolOnce) {
  const Tokens document = Text(0, 2);
  Sequence first = Compute(document);
  Sequence second = Compute(Join(document, Text(500, 1)));
  EXPECT_NE(first.pages[0], second.pages[0]);
  Register(first);
  EXPECT_EQ(pool_->stats().used, 5);
  Register(second);
  EXPECT_EQ(pool_->stats().used, 3);
  EXPECT_EQ(second.pages[0], first.pages[0]);
  EXPECT_EQ(second.pages[1], first.pages[1]);
  EXPECT_EQ(pool_->references(first.pages[0]), 2);
  Drop(first);
  EXPECT_EQ(pool_->stats().used, 3);
  Drop(second);
  EXPECT_EQ(pool_->stats().used, 0);
  EXPECT_EQ(pool_->stats().cached, 3);
}

// Even when all that is free is promised: one page is given for the other.
TEST_P(PrefixCacheTest, TakesAnIdlePageForItsOwnInAFullPool) {
  const Tokens document = Text(0, 1);
  Sequence late = Compute(document);
  Leave(document);
  ASSERT_TRUE(pool_->Promise(pool_->num_free()).ok());
  Register(late);
  EXPECT_EQ(pool_->num_free(), 0);
  EXPECT_EQ(pool_->stats().cached, 0);
  Drop(late);
}

TEST_P(PrefixCacheTest, EvictsTheLeastRecentlyUsedLeafFirst) {
  const Tokens trunk = Text(0, 2);
  const Tokens left = Join(trunk, Text(1000, 2));
  const Tokens right = Join(trunk, Text(2000, 2));
  Leave(left);
  Leave(right);
  ASSERT_EQ(pool_->stats().cached, 6);
  // The trunk was used last, by `right`; before it right's own pages, before
  // those left's.
  const auto expect_left = [&](int64_t left_tokens, int64_t right_tokens) {
    EXPECT_EQ(Matched(left), left_tokens);
    EXPECT_EQ(Matched(right), right_tokens);
  };
  std::vector<int32_t> taken;
  ASSERT_TRUE(pool_->Take(2, &taken).ok());
  expect_left(64, 64);
  EXPECT_EQ(pool_->num_evictions(), 0);
  for (const auto& [left_tokens, right_tokens] :
       {std::pair(48, 64), std::pair(32, 64), std::pair(32, 48),
        std::pair(32, 32), std::pair(16, 16), std::pair(0, 0)}) {
    ASSERT_TRUE(pool_->Take(1, &taken).ok());
    Check();
    expect_left(left_tokens, right_tokens);
  }
  EXPECT_EQ(pool_->num_evictions(), 6);
  EXPECT_EQ(cache_->num_pages(), 0);
  EXPECT_FALSE(pool_->Take(1, &taken).ok());
  pool_->Release(taken);
}

TEST_P(PrefixCacheTest, UseMakesAPrefixYoung) {
  const Tokens a = Text(0, 2), b = Text(1000, 2), c = Text(2000, 2);
  Leave(a);
  Leave(b);
  Leave(c);
  Leave(a);
  std::vector<int32_t> taken;
  ASSERT_TRUE(pool_->Take(2 + 4, &taken).ok());
  EXPECT_EQ(Matched(a), 32);
  EXPECT_EQ(Matched(b), 0);
  EXPECT_EQ(Matched(c), 0);
  pool_->Release(taken);
}

TEST_P(PrefixCacheTest, NeverEvictsWhatSomebodyReads) {
  const Tokens document = Text(0, 3);
  Leave(document);
  Leave(Text(1000, 3));
  const Sequence reader = Hold(Tokens(document.begin(), document.begin() + 32));
  std::vector<int32_t> taken;
  EXPECT_EQ(pool_->num_free(), 6);
  EXPECT_FALSE(pool_->Take(7, &taken).ok());
  ASSERT_TRUE(pool_->Take(6, &taken).ok());
  Check();
  EXPECT_EQ(Matched(document), 32);
  EXPECT_EQ(cache_->Reset(), 0);
  EXPECT_EQ(Matched(document), 32);
  EXPECT_THAT(taken, testing::Not(testing::Contains(reader.pages[0])));
  EXPECT_THAT(taken, testing::Not(testing::Contains(reader.pages[1])));
  Drop(reader);
  pool_->Release(taken);
}

TEST_P(PrefixCacheTest, AllOfThePoolCanBeCachedAndAllTaken) {
  Leave(Text(0, 5));
  Leave(Text(1000, 3));
  EXPECT_EQ(pool_->stats().cached, 8);
  EXPECT_EQ(pool_->num_free(), 8);
  ASSERT_TRUE(pool_->Promise(5).ok());
  EXPECT_EQ(pool_->num_free(), 3);
  EXPECT_EQ(cache_->num_pages(), 8) << "a promise evicts nothing";
  std::vector<int32_t> taken;
  ASSERT_TRUE(pool_->Take(3, &taken).ok());
  EXPECT_FALSE(pool_->Take(1, &taken).ok());
  pool_->TakePromised(5, &taken);
  Check();
  EXPECT_EQ(cache_->num_pages(), 0);
  std::sort(taken.begin(), taken.end());
  EXPECT_THAT(taken, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  pool_->Release(taken);
  Leave(Text(0, 8));
  EXPECT_EQ(Matched(Text(0, 8)), 128);
}

TEST_P(PrefixCacheTest, TheCacheLeavesThePoolAsItWas) {
  Leave(Text(0, 5));
  cache_.reset();
  pool_->CheckInvariantsForTest();
  EXPECT_EQ(pool_->stats().cached, 0);
  EXPECT_EQ(pool_->stats().free, 8);
}

// Any mix of sequences, takers and resets: the pool's counts add up, and what
// is found is what was written. A page's content is its prefix, kept beside.
TEST_P(PrefixCacheTest, AgreesWithWhatWasWrittenUnderRandomOperations) {
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    cache_.reset();
    pool_ =
        *PagePool::Create(backend_, ScriptedModel::Layout(1 + random() % 24));
    cache_ = std::make_unique<PrefixCache>(*pool_, GetParam());
    std::vector<Sequence> live;
    std::vector<std::string> written(pool_->layout().num_pages);
    for (int step = 0; step < 300; ++step) {
      const uint32_t operation = random() % 8;
      if (operation == 0) {
        EXPECT_EQ(cache_->Reset() >= 0, true);
        EXPECT_EQ(pool_->stats().cached, 0);
      } else if (operation < 5) {
        Tokens tokens;
        std::string salt(random() % 2, 's');
        std::string prefix = salt;
        std::vector<std::string> contents;
        for (uint32_t page = random() % 6; page > 0; --page) {
          const int32_t kind = random() % 3;
          tokens = Join(tokens, Tokens(kPageTokens, kind));
          contents.push_back(prefix += static_cast<char>('0' + kind));
        }
        const PrefixMatch match = cache_->Match(salt, tokens, tokens.size());
        for (size_t i = 0; i < match.pages.size(); ++i) {
          ASSERT_EQ(written[match.pages[i]], contents[i]);
        }
        int64_t wanted = PagesFor(static_cast<int64_t>(tokens.size()));
        for (const int32_t page : match.pages) {
          if (pool_->references(page) > 0) --wanted;
        }
        if (wanted > pool_->num_free()) continue;
        Sequence sequence = Compute(tokens, salt);
        for (size_t i = match.pages.size(); i < contents.size(); ++i) {
          written[sequence.pages[i]] = contents[i];
        }
        live.push_back(std::move(sequence));
      } else if (!live.empty()) {
        const size_t index = random() % live.size();
        Register(live[index]);
        if (operation == 5) continue;
        Drop(live[index]);
        live.erase(live.begin() + static_cast<int64_t>(index));
      }
      Check();
    }
    for (const Sequence& sequence : live) Drop(sequence);
    ASSERT_EQ(pool_->stats().used, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Hashes, PrefixCacheTest,
                         ::testing::Values(&HashPage, &WeakHash),
                         [](const auto& hash) {
                           return hash.param == &WeakHash ? "Weak" : "Real";
                         });

TEST(HashPage, DependsOnEveryTokenAndOnTheParent) {
  const Tokens tokens = Text(0, 1);
  const uint64_t hash = HashPage(1, tokens);
  EXPECT_EQ(HashPage(1, tokens), hash);
  EXPECT_NE(HashPage(2, tokens), hash);
  for (size_t i = 0; i < tokens.size(); ++i) {
    Tokens other = tokens;
    other[i] ^= 1;
    EXPECT_NE(HashPage(1, other), hash) << i;
  }
  Tokens swapped = tokens;
  std::swap(swapped[3], swapped[4]);
  EXPECT_NE(HashPage(1, swapped), hash);
}

}  // namespace
}  // namespace sentencekv
