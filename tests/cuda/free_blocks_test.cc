#include "kernels/cuda/free_blocks.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace sentencekv {
namespace {

TEST(FreeBlocksTest, TakesTheSmallestBlockThatHasRoom) {
  FreeBlocks free(1000);
  ASSERT_EQ(free.Take(100), 0u);
  ASSERT_EQ(free.Take(10), 100u);
  ASSERT_EQ(free.Take(50), 110u);
  ASSERT_EQ(free.Take(10), 160u);
  free.Give(0, 100);
  free.Give(110, 50);
  // Free: 100 at 0, 50 at 110, 830 at 170.
  EXPECT_EQ(free.Take(50), 110u);
  EXPECT_EQ(free.Take(40), 0u);
  EXPECT_EQ(free.Take(61), 170u);
  EXPECT_EQ(free.Take(60), 40u);
}

TEST(FreeBlocksTest, NeighboursAreJoinedInAnyOrder) {
  std::vector<size_t> order = {0, 1, 2, 3};
  do {
    FreeBlocks free(400);
    for (size_t i = 0; i < 4; ++i) ASSERT_EQ(free.Take(100), i * 100);
    EXPECT_EQ(free.largest_bytes(), 0u);
    for (const size_t i : order) free.Give(i * 100, 100);
    EXPECT_EQ(free.largest_bytes(), 400u);
    EXPECT_EQ(free.Take(400), 0u);
  } while (std::ranges::next_permutation(order).found);
}

TEST(FreeBlocksTest, RefusesWhatNoBlockHas) {
  FreeBlocks free(300);
  ASSERT_TRUE(free.Take(100).has_value());
  ASSERT_EQ(free.Take(100), 100u);
  free.Give(0, 100);
  EXPECT_EQ(free.free_bytes(), 200u);
  EXPECT_EQ(free.largest_bytes(), 100u);
  EXPECT_EQ(free.Take(101), std::nullopt);
  EXPECT_EQ(FreeBlocks(0).Take(1), std::nullopt);
}

// Against one flag for each byte.
class Model {
 public:
  explicit Model(size_t size_bytes) : is_taken_(size_bytes, false) {}

  bool IsFree(size_t offset, size_t size_bytes) const {
    return offset + size_bytes <= is_taken_.size() &&
           std::find(is_taken_.begin() + offset,
                     is_taken_.begin() + offset + size_bytes,
                     true) == is_taken_.begin() + offset + size_bytes;
  }
  void Set(size_t offset, size_t size_bytes, bool is_taken) {
    std::fill_n(is_taken_.begin() + offset, size_bytes, is_taken);
  }
  size_t free_bytes() const {
    return static_cast<size_t>(
        std::count(is_taken_.begin(), is_taken_.end(), false));
  }
  size_t largest_bytes() const {
    size_t largest = 0;
    size_t run = 0;
    for (const bool is_taken : is_taken_) {
      run = is_taken ? 0 : run + 1;
      largest = std::max(largest, run);
    }
    return largest;
  }

 private:
  std::vector<bool> is_taken_;
};

TEST(FreeBlocksTest, RandomProgramsAgreeWithAModel) {
  constexpr size_t kBytes = 500;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    FreeBlocks free(kBytes);
    Model model(kBytes);
    std::vector<std::pair<size_t, size_t>> taken;
    for (int step = 0; step < 500; ++step) {
      if (taken.empty() || random() % 2 == 0) {
        const size_t size = 1 + random() % (random() % 3 == 0 ? 120 : 20);
        const std::optional<size_t> offset = free.Take(size);
        ASSERT_EQ(offset.has_value(), size <= model.largest_bytes());
        if (!offset.has_value()) continue;
        ASSERT_TRUE(model.IsFree(*offset, size));
        model.Set(*offset, size, true);
        taken.emplace_back(*offset, size);
      } else {
        std::swap(taken[random() % taken.size()], taken.back());
        const auto [offset, size] = taken.back();
        taken.pop_back();
        free.Give(offset, size);
        model.Set(offset, size, false);
      }
      ASSERT_EQ(free.free_bytes(), model.free_bytes());
      ASSERT_EQ(free.largest_bytes(), model.largest_bytes());
    }
    for (const auto& [offset, size] : taken) free.Give(offset, size);
    EXPECT_EQ(free.Take(kBytes), 0u);
  }
}

TEST(FreeBlocksDeathTest, NothingIsGivenBackTwice) {
  FreeBlocks free(300);
  ASSERT_EQ(free.Take(100), 0u);
  ASSERT_EQ(free.Take(100), 100u);
  free.Give(0, 100);
  EXPECT_DEATH(free.Give(0, 100), "check failed");
  EXPECT_DEATH(free.Give(50, 100), "check failed");
  EXPECT_DEATH(free.Give(150, 100), "check failed");
  EXPECT_DEATH(free.Give(250, 100), "check failed");
}

}  // namespace
}  // namespace sentencekv
