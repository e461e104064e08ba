#include "cache/chosen_runs.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace sentencekv {
namespace {

TEST(ChosenRuns, FindsWhatWasPlaced) {
  ChosenRuns runs;
  EXPECT_EQ(runs.Find(3, 0b1, 1), std::nullopt);
  EXPECT_EQ(runs.Place(3, 0b111, 1, 2), 0);
  EXPECT_EQ(runs.Place(9, 0b1, 1, 2), 1);
  EXPECT_EQ(runs.num_used(), 2);
  EXPECT_EQ(runs.Find(3, 0b101, 2), 0);
  EXPECT_EQ(runs.Find(3, 0b111, 2), 0);
  EXPECT_EQ(runs.Find(9, 0b1, 2), 1);
  EXPECT_EQ(runs.Find(2, 0b1, 2), std::nullopt);
  EXPECT_EQ(runs.Find(1000, 0b1, 2), std::nullopt);
  EXPECT_EQ(runs.num_evictions(), 0);
}

// A page that was written on: the old copy lacks tokens.
TEST(ChosenRuns, TokensThatAreNotThereAreNotFound) {
  ChosenRuns runs;
  EXPECT_EQ(runs.Place(0, 0x00ff, 1, 4), 0);
  EXPECT_EQ(runs.Find(0, 0x01ff, 2), std::nullopt);
  EXPECT_EQ(runs.Find(0, 0x8000, 2), std::nullopt);
  // The new copy takes the slot of the old one, free slots or not, and even if
  // the old one is used now.
  EXPECT_EQ(runs.Place(0, 0x01ff, 2, 4), 0);
  EXPECT_EQ(runs.num_used(), 1);
  EXPECT_EQ(runs.Find(0, 0x01ff, 2), 0);
  EXPECT_EQ(runs.Place(0, 0xffff, 2, 4), 0);
  EXPECT_EQ(runs.Find(0, 0x8000, 2), 0);
  EXPECT_EQ(runs.num_evictions(), 0);
}

// What was looked for in vain was not used.
TEST(ChosenRuns, AMissIsNoUse) {
  ChosenRuns runs;
  runs.Place(0, 0b1, 1, 2);
  runs.Place(1, 0b1, 2, 2);
  EXPECT_EQ(runs.Find(0, 0b11, 3), std::nullopt);
  EXPECT_EQ(runs.Place(2, 0b1, 3, 2), 0);
}

TEST(ChosenRuns, TheRunUnusedLongestMakesRoom) {
  ChosenRuns runs;
  for (int32_t page = 0; page < 3; ++page) {
    EXPECT_EQ(runs.Place(page, 0b1, 1 + static_cast<uint64_t>(page), 3), page);
  }
  EXPECT_EQ(runs.Find(0, 0b1, 4), 0);
  EXPECT_EQ(runs.Place(3, 0b1, 5, 3), 1);
  EXPECT_EQ(runs.Find(1, 0b1, 6), std::nullopt);
  EXPECT_EQ(runs.Place(4, 0b1, 6, 3), 2);
  EXPECT_EQ(runs.Place(5, 0b1, 7, 3), 0);
  EXPECT_EQ(runs.num_evictions(), 3);
  EXPECT_EQ(runs.num_used(), 3);
}

TEST(ChosenRuns, WhatIsUsedNowStays) {
  ChosenRuns runs;
  EXPECT_EQ(runs.Place(0, 0b1, 1, 0), std::nullopt);  // no slots at all
  EXPECT_EQ(runs.Place(0, 0b1, 1, 2), 0);
  EXPECT_EQ(runs.Place(1, 0b1, 1, 2), 1);
  EXPECT_EQ(runs.Place(2, 0b1, 1, 2), std::nullopt);
  EXPECT_EQ(runs.Find(0, 0b1, 2), 0);
  EXPECT_EQ(runs.Find(1, 0b1, 2), 1);
  EXPECT_EQ(runs.Place(2, 0b1, 2, 2), std::nullopt);
  EXPECT_EQ(runs.num_evictions(), 0);
  // More slots are room at once.
  EXPECT_EQ(runs.Place(2, 0b1, 2, 3), 2);
}

// The same in a few lines: slots in a list, searched from end to end.
struct NaiveRuns {
  struct Slot {
    int32_t page;
    uint16_t tokens;
    uint64_t last_use;
  };

  std::optional<int32_t> Find(int32_t page, uint16_t tokens, uint64_t use) {
    for (Slot& slot : slots) {
      if (slot.page != page || (slot.tokens & tokens) != tokens) continue;
      slot.last_use = use;
      return static_cast<int32_t>(&slot - slots.data());
    }
    return std::nullopt;
  }
  // The slots that Place may choose.
  std::vector<int32_t> Places(int32_t page, uint64_t use, size_t num_slots) {
    std::vector<int32_t> places;
    const auto add_those = [&](auto&& fits) {
      for (size_t i = 0; i < slots.size(); ++i) {
        if (fits(slots[i])) places.push_back(static_cast<int32_t>(i));
      }
    };
    add_those([&](const Slot& slot) { return slot.page == page; });
    if (!places.empty()) return places;
    if (slots.size() < num_slots) return {static_cast<int32_t>(slots.size())};
    uint64_t oldest = use;
    for (const Slot& slot : slots) oldest = std::min(oldest, slot.last_use);
    if (oldest < use) {
      add_those([&](const Slot& slot) { return slot.last_use == oldest; });
    }
    return places;
  }

  std::vector<Slot> slots;
};

TEST(ChosenRuns, AgreesWithANaiveModelUnderRandomOperations) {
  for (uint32_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    ChosenRuns runs;
    NaiveRuns naive;
    size_t num_slots = 0;
    uint64_t use = 1;
    int64_t num_evictions = 0;
    for (int step = 0; step < 500; ++step) {
      if (random() % 4 == 0) ++use;
      if (random() % 20 == 0) ++num_slots;
      const auto page = static_cast<int32_t>(random() % 20);
      // The first tokens of a page, as texts grow at their ends.
      const auto tokens = static_cast<uint16_t>((2u << random() % 16) - 1);
      const std::optional<int32_t> found = runs.Find(page, tokens, use);
      ASSERT_EQ(found, naive.Find(page, tokens, use));
      if (found.has_value()) continue;
      const auto places = naive.Places(page, use, num_slots);
      const std::optional<int32_t> placed =
          runs.Place(page, tokens, use, static_cast<int64_t>(num_slots));
      ASSERT_EQ(placed.has_value(), !places.empty());
      if (!placed.has_value()) continue;
      ASSERT_EQ(std::ranges::count(places, *placed), 1);
      const auto slot = static_cast<size_t>(*placed);
      if (slot == naive.slots.size()) {
        naive.slots.emplace_back();
      } else if (naive.slots[slot].page != page) {
        ++num_evictions;
      }
      naive.slots[slot] = {page, tokens, use};
      ASSERT_EQ(runs.num_used(), std::ssize(naive.slots));
      ASSERT_EQ(runs.num_evictions(), num_evictions);
    }
  }
}

}  // namespace
}  // namespace sentencekv
