// Where chosen pages lie on the device, against ChosenRuns.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "fmt/format.h"
#include "tests/cuda/choice_steps.h"
#include "tests/cuda/simulated_device.h"

namespace sentencekv {
namespace {

constexpr ChoiceRoom kRoom = {.num_layers = 2,
                              .num_kv_heads = 2,
                              .most_sentences = 128,
                              .most_pages = 64,
                              .most_chosen = 40,
                              .most_slots = 80};
constexpr int64_t kRows = 2;
constexpr SelectionLimits kLimits = {
    .budget = 60, .num_sink = 5, .num_recent = 9};

// Two sequences that grow, chosen for in two layers and KV heads, with the
// host's choices beside the device's.
class Schedule {
 public:
  Schedule(cuda_sim::SimDevice& device, uint32_t seed)
      : random_(seed), there_(device, kRoom, kRows), rows_(kRows) {
    for (int64_t i = 0; i < kRows * kRoom.num_layers; ++i) {
      for (int32_t g = 0; g < 2; ++g) {
        hosts_.emplace_back(g, there_.FirstRun(i / 2, i % 2, g));
      }
    }
    for (int i = 0; i < kRows; ++i) {
      lengths_.emplace_back();
      for (int s = 0; s < 20; ++s) {
        lengths_.back().push_back(1 + static_cast<int32_t>(random_() % 20));
      }
    }
  }

  std::mt19937& random() { return random_; }
  std::vector<ChoiceRow>& rows() { return rows_; }
  std::vector<ChoiceCounts> Counts() { return there_.Counts(); }

  // Every text gets up to two sentences.
  void Grow() {
    for (size_t i = 0; i < kRows; ++i) {
      for (uint32_t n = random_() % 3; n > 0 && lengths_[i].size() < 70; --n) {
        lengths_[i].push_back(1 + static_cast<int32_t>(random_() % 20));
      }
      const ChoiceRow before = rows_[i];
      rows_[i] = RowOf(lengths_[i], 1 + random_() % 12, kLimits);
      rows_[i].use = before.use + 1;
      rows_[i].num_slots = before.num_slots;
    }
  }

  // Both layers; the pages wanted drift.
  void Step() {
    there_.SetRows(rows_);
    for (int64_t layer = 0; layer < 2; ++layer) {
      std::vector<std::vector<float>> scores;
      for (size_t i = 0; i < 2 * kRows; ++i) {
        const size_t count = rows_[i / 2].ends.size();
        scores.emplace_back();
        for (size_t s = 0; s < count; ++s) {
          const bool is_near = (s + rows_[0].use / 4 + i) % 11 < 4;
          scores.back().push_back(static_cast<float>(random_() % 8) +
                                  (is_near ? 4.0f : 0.0f));
        }
      }
      there_.SetScores(scores);
      ASSERT_EQ(there_.Choose(layer), cudaSuccess);
      const std::vector<ChoiceLists> lists = there_.Lists(layer);
      ASSERT_EQ(lists.size(), 2u * kRows);
      for (size_t i = 0; i < lists.size(); ++i) {
        HostChoice& host = hosts_[(i / 2 * 2 + layer) * 2 + i % 2];
        const ChoiceLists expected = host.Choose(rows_[i / 2], scores[i]);
        ASSERT_EQ(lists[i].pages, expected.pages) << layer << ' ' << i;
        ASSERT_EQ(lists[i].runs, expected.runs) << layer << ' ' << i;
        ASSERT_EQ(lists[i].fetched, expected.fetched) << layer << ' ' << i;
        ASSERT_TRUE(lists[i] == expected) << layer << ' ' << i;
      }
    }
  }

  // The device's counts are over layers.
  void ExpectCounts() {
    const std::vector<ChoiceCounts> counts = there_.Counts();
    ASSERT_EQ(counts.size(), 2u * kRows);
    for (size_t i = 0; i < counts.size(); ++i) {
      ChoiceCounts sum;
      for (size_t layer = 0; layer < 2; ++layer) {
        sum += hosts_[(i / 2 * 2 + layer) * 2 + i % 2].counts();
      }
      EXPECT_EQ(counts[i].sentences, sum.sentences);
      EXPECT_EQ(counts[i].repeated, sum.repeated);
      EXPECT_EQ(counts[i].tokens, sum.tokens);
      EXPECT_EQ(counts[i].hits, sum.hits);
      EXPECT_EQ(counts[i].misses, sum.misses);
      EXPECT_EQ(counts[i].evictions, sum.evictions);
      EXPECT_EQ(counts[i].whole_pages, sum.whole_pages);
      EXPECT_EQ(counts[i].bytes, sum.bytes);
      EXPECT_EQ(counts[i].flags, sum.flags);
    }
  }

 private:
  std::mt19937 random_;
  DeviceChoices there_;
  std::vector<ChoiceRow> rows_;
  std::vector<std::vector<int32_t>> lengths_;  // of sentences
  std::vector<HostChoice> hosts_;              // [rows][layers][KV heads]
};

// Slots come as the host lends frames; the last pages lie on the device as a
// whole at times.
void RunSchedule(cuda_sim::SimDevice& device, uint32_t seed, int num_steps) {
  Schedule schedule(device, seed);
  for (ChoiceRow& row : schedule.rows()) row.num_slots = 30;
  for (int step = 0; step < num_steps; ++step) {
    schedule.Grow();
    for (ChoiceRow& row : schedule.rows()) {
      std::mt19937& random = schedule.random();
      if (random() % 8 == 0) row.num_slots = std::min(row.num_slots + 3, 80);
      if (random() % 2 == 0) continue;
      row.whole_pages.assign(row.host_pages.size(), -1);
      for (size_t i = 0; i < 1 + random() % 2; ++i) {
        const size_t page = random() % row.host_pages.size();
        row.whole_pages[page] = 5000 + 2 * static_cast<int32_t>(page);
      }
    }
    schedule.Step();
    if (testing::Test::HasFatalFailure()) return;
  }
  schedule.ExpectCounts();
  for (const ChoiceCounts& counts : schedule.Counts()) {
    EXPECT_EQ(counts.flags, 0);
    EXPECT_GT(counts.hits, 0);
    EXPECT_GT(counts.misses, 0);
  }
}

TEST(CudaSlots, EqualChosenRunsInRandomSchedules) {
  uint32_t seed = 0;
  ForSeeds(
      20, [&](cuda_sim::SimDevice& device) { RunSchedule(device, ++seed, 3); });
}

TEST(CudaSlots, EqualChosenRunsInALongSchedule) {
  ForSeeds(1,
           [&](cuda_sim::SimDevice& device) { RunSchedule(device, 100, 30); });
}

// Fewer slots than pages are chosen: what comes first gets one, the rest is
// said to be missing.
TEST(CudaSlots, SayWhenTheyAreTooFew) {
  ForSeeds(2, [](cuda_sim::SimDevice& device) {
    Schedule schedule(device, 9);
    for (ChoiceRow& row : schedule.rows()) row.num_slots = 4;
    for (int step = 0; step < 6; ++step) {
      schedule.Grow();
      schedule.Step();
    }
    schedule.ExpectCounts();
    for (const ChoiceCounts& counts : schedule.Counts()) {
      EXPECT_EQ(counts.flags, kNoSlotLeft);
    }
  });
}

// A step of twice as many slots as pages finds room whatever the step before
// used, and evicts nothing of its own.
TEST(CudaSlots, TwiceAStepsPagesSuffice) {
  ForSeeds(3, [](cuda_sim::SimDevice& device) {
    const ChoiceRoom room = {
        .most_pages = 64, .most_chosen = 6, .most_slots = 12};
    DeviceChoices there(device, room, 1);
    HostChoice host(0, 0);
    // Sentences of a page each; 4 of them, the sink's page and the last.
    ChoiceRow row = RowOf(std::vector<int32_t>(40, 16), 16,
                          {.budget = 64, .num_recent = 16});
    row.num_slots = 12;
    std::mt19937 random(8);
    for (row.use = 1; row.use < 16; ++row.use) {
      std::vector<float> scores;
      for (int i = 0; i < 40; ++i) {
        scores.push_back(static_cast<float>(random()));
      }
      there.SetRows({row});
      there.SetScores({scores});
      ASSERT_EQ(there.Choose(0), cudaSuccess);
      const std::vector<ChoiceLists> lists = there.Lists(0);
      ASSERT_EQ(lists.size(), 1u);
      EXPECT_EQ(lists[0].pages.size(), 6u);
      EXPECT_TRUE(lists[0] == host.Choose(row, scores));
      std::vector<int32_t> runs = lists[0].runs;
      std::ranges::sort(runs);
      EXPECT_TRUE(std::ranges::adjacent_find(runs) == runs.end());
    }
    EXPECT_EQ(there.Counts()[0].flags, 0);
    EXPECT_EQ(there.Counts()[0].evictions, host.counts().evictions);
  });
}

}  // namespace
}  // namespace sentencekv
