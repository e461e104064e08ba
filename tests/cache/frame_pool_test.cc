#include "cache/frame_pool.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sentencekv {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A pool that remembers what made room.
struct Frames {
  Frames(int64_t num_frames, int64_t num_reserved)
      : pool(num_frames, num_reserved,
             [this](int32_t frame) { evicted.push_back(frame); }) {}

  std::vector<int32_t> TakeForPages(int count) {
    std::vector<int32_t> taken;
    for (int i = 0; i < count; ++i) taken.push_back(pool.TakeForPage().value());
    return taken;
  }

  std::vector<int32_t> evicted;
  FramePool pool;
};

TEST(FramePool, GivesEveryFrameOnce) {
  Frames frames(3, 1);
  EXPECT_EQ(frames.pool.num_frames(), 3);
  EXPECT_EQ(frames.pool.num_used(), 0);
  EXPECT_THAT(frames.TakeForPages(3), ElementsAre(0, 1, 2));
  EXPECT_EQ(frames.pool.num_used(), 3);
  EXPECT_THAT(frames.evicted, IsEmpty());
}

TEST(FramePool, KeepsWhatIsUsedNow) {
  Frames frames(2, 1);
  frames.TakeForPages(2);
  EXPECT_EQ(frames.pool.TakeForPage(), std::nullopt);
  EXPECT_THAT(frames.evicted, IsEmpty());
  frames.pool.BeginUse();
  EXPECT_EQ(frames.pool.TakeForPage(), 0);
  EXPECT_EQ(frames.pool.TakeForPage(), 1);
  EXPECT_EQ(frames.pool.TakeForPage(), std::nullopt);
  EXPECT_THAT(frames.evicted, ElementsAre(0, 1));
}

TEST(FramePool, ThePageUnusedLongestMakesRoom) {
  Frames frames(4, 1);
  frames.TakeForPages(4);
  frames.pool.BeginUse();
  frames.pool.Touch(1);
  frames.pool.Touch(0);
  frames.pool.BeginUse();
  frames.pool.Touch(1);
  frames.pool.Touch(1);  // twice in a use is once
  frames.pool.BeginUse();
  for (int i = 0; i < 4; ++i) frames.pool.TakeForPage();
  EXPECT_THAT(frames.evicted, ElementsAre(2, 3, 0, 1));
}

TEST(FramePool, ATouchedPageIsUsedNow) {
  Frames frames(2, 1);
  frames.TakeForPages(2);
  frames.pool.BeginUse();
  frames.pool.Touch(0);
  EXPECT_EQ(frames.pool.TakeForPage(), 1);
  EXPECT_EQ(frames.pool.TakeForPage(), std::nullopt);
}

TEST(FramePool, AFreeFrameComesBeforeAPageThatMakesRoom) {
  Frames frames(3, 1);
  frames.TakeForPages(3);
  frames.pool.GiveBack(1);
  EXPECT_EQ(frames.pool.num_used(), 2);
  frames.pool.BeginUse();
  EXPECT_EQ(frames.pool.TakeForPage(), 1);
  EXPECT_THAT(frames.evicted, IsEmpty());
}

TEST(FramePool, WhatWasGivenBackIsNotEvicted) {
  Frames frames(2, 1);
  frames.TakeForPages(2);
  frames.pool.GiveBack(0);
  frames.pool.BeginUse();
  EXPECT_EQ(frames.pool.TakeForPage(), 0);
  EXPECT_EQ(frames.pool.TakeForPage(), 1);
  EXPECT_THAT(frames.evicted, ElementsAre(1));
}

TEST(FramePool, TheReserveIsNotLent) {
  Frames frames(5, 3);
  EXPECT_EQ(frames.pool.Lend(), 0);
  EXPECT_EQ(frames.pool.Lend(), 1);
  EXPECT_EQ(frames.pool.Lend(), std::nullopt);
  EXPECT_THAT(frames.TakeForPages(3), ElementsAre(2, 3, 4));
  // Given back it may be lent again.
  frames.pool.GiveBack(0);
  frames.pool.GiveBack(2);
  EXPECT_TRUE(frames.pool.Lend().has_value());
  EXPECT_EQ(frames.pool.Lend(), std::nullopt);
}

TEST(FramePool, PagesMakeRoomForLentFramesAndNotTheOtherWayRound) {
  Frames frames(3, 2);
  frames.TakeForPages(3);
  EXPECT_EQ(frames.pool.Lend(), std::nullopt);  // all are used now
  frames.pool.BeginUse();
  EXPECT_EQ(frames.pool.Lend(), 0);
  for (int use = 0; use < 3; ++use) {
    frames.pool.BeginUse();
    frames.TakeForPages(2);
    EXPECT_EQ(frames.pool.TakeForPage(), std::nullopt);
  }
  EXPECT_THAT(frames.evicted, ElementsAre(0, 1, 2, 1, 2, 1, 2));
}

// A lent frame that comes back and then holds a page is a page like others.
TEST(FramePool, AFrameChangesItsUse) {
  Frames frames(2, 1);
  const int32_t lent = frames.pool.Lend().value();
  frames.pool.GiveBack(lent);
  EXPECT_EQ(frames.pool.TakeForPage(), lent);
  frames.pool.Touch(lent);
  frames.pool.GiveBack(lent);
  EXPECT_EQ(frames.pool.num_used(), 0);
  EXPECT_TRUE(frames.pool.Lend().has_value());
}

TEST(FramePoolDeathTest, RefusesMisuse) {
  EXPECT_DEATH(FramePool(2, 0, nullptr), "num_reserved");
  EXPECT_DEATH(FramePool(2, 3, nullptr), "num_reserved");
  Frames frames(2, 1);
  const int32_t lent = frames.pool.Lend().value();
  EXPECT_DEATH(frames.pool.Touch(lent), "is_lent");
}

// The same in a few lines: pages in a list, searched from end to end.
class NaivePool {
 public:
  NaivePool(int64_t num_frames, int64_t num_reserved)
      : num_reserved_(num_reserved) {
    for (int32_t frame = 0; frame < num_frames; ++frame) free_.insert(frame);
  }

  void BeginUse() { ++use_; }
  // Whether a frame can be had; the page that makes room for it.
  bool CanTake(std::optional<int32_t>* evicted) const {
    *evicted = std::nullopt;
    if (!free_.empty()) return true;
    if (pages_.empty() || pages_.front().last_use == use_) return false;
    *evicted = pages_.front().frame;
    return true;
  }
  bool CanLend(std::optional<int32_t>* evicted) const {
    *evicted = std::nullopt;
    const auto num_frames =
        static_cast<int64_t>(free_.size() + pages_.size() + lent_.size());
    return std::ssize(lent_) < num_frames - num_reserved_ && CanTake(evicted);
  }
  void TookForPage(int32_t frame) {
    GaveBack(frame);
    free_.erase(frame);
    pages_.push_back({frame, use_});
  }
  void WasLent(int32_t frame) {
    GaveBack(frame);
    free_.erase(frame);
    lent_.insert(frame);
  }
  void Touched(int32_t frame) {
    const auto page = std::ranges::find(pages_, frame, &Page::frame);
    if (page->last_use == use_) return;
    pages_.erase(page);
    pages_.push_back({frame, use_});
  }
  void GaveBack(int32_t frame) {
    std::erase_if(pages_,
                  [&](const Page& page) { return page.frame == frame; });
    lent_.erase(frame);
    free_.insert(frame);
  }

  bool is_free(int32_t frame) const { return free_.contains(frame); }
  bool is_lent(int32_t frame) const { return lent_.contains(frame); }
  int64_t num_used() const { return std::ssize(pages_) + std::ssize(lent_); }

 private:
  struct Page {
    int32_t frame;
    uint64_t last_use;
  };

  const int64_t num_reserved_;
  std::set<int32_t> free_;
  std::set<int32_t> lent_;
  std::vector<Page> pages_;  // the one unused longest first
  uint64_t use_ = 1;
};

TEST(FramePool, AgreesWithANaiveModelUnderRandomOperations) {
  for (uint32_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    const int64_t num_frames = 1 + random() % 12;
    const int64_t num_reserved = 1 + random() % num_frames;
    Frames frames(num_frames, num_reserved);
    NaivePool naive(num_frames, num_reserved);
    for (int step = 0; step < 500; ++step) {
      frames.evicted.clear();
      std::optional<int32_t> makes_room;
      const auto frame = static_cast<int32_t>(random() % num_frames);
      switch (random() % 6) {
        case 0:
          frames.pool.BeginUse();
          naive.BeginUse();
          break;
        case 1:
        case 2: {
          const bool possible = naive.CanTake(&makes_room);
          const std::optional<int32_t> taken = frames.pool.TakeForPage();
          ASSERT_EQ(taken.has_value(), possible);
          if (!possible) break;
          ASSERT_TRUE(naive.is_free(*taken) || taken == makes_room);
          naive.TookForPage(*taken);
          break;
        }
        case 3: {
          const bool possible = naive.CanLend(&makes_room);
          const std::optional<int32_t> lent = frames.pool.Lend();
          ASSERT_EQ(lent.has_value(), possible);
          if (!possible) break;
          ASSERT_TRUE(naive.is_free(*lent) || lent == makes_room);
          naive.WasLent(*lent);
          break;
        }
        case 4:
          if (naive.is_free(frame) || naive.is_lent(frame)) break;
          frames.pool.Touch(frame);
          naive.Touched(frame);
          break;
        case 5:
          if (naive.is_free(frame)) break;
          frames.pool.GiveBack(frame);
          naive.GaveBack(frame);
          break;
      }
      const std::optional<int32_t> evicted =
          frames.evicted.empty() ? std::nullopt
                                 : std::optional(frames.evicted.back());
      ASSERT_LE(frames.evicted.size(), 1u);
      ASSERT_EQ(evicted, makes_room);
      ASSERT_EQ(frames.pool.num_used(), naive.num_used());
    }
  }
}

}  // namespace
}  // namespace sentencekv
