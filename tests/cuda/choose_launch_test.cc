// What a choice needs room for, reads and writes.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "kernels/cuda/choose_kernels.h"
#include "tests/cuda/choice_steps.h"
#include "tests/cuda/simulated_device.h"

namespace sentencekv {
namespace {

TEST(CudaChoose, SaysWhenThereIsNoRoom) {
  ForSeeds(3, [](cuda_sim::SimDevice& device) {
    const ChoiceRoom room = {.most_sentences = 32,
                             .most_pages = 32,
                             .most_chosen = 8,
                             .most_slots = 8};
    const SelectionLimits limits = {.budget = 64, .num_recent = 8};
    ChoiceRow fits = RowOf({30, 30, 30}, 5, limits);
    fits.num_slots = 8;
    const ChoiceRow absent = {};
    ChoiceRow many_sentences = RowOf(std::vector<int32_t>(33, 2), 1, limits);
    ChoiceRow many_tokens = RowOf({10}, 32 * 16, limits);
    ChoiceRow many_slots = fits;
    many_slots.num_slots = 9;
    ChoiceRow many_pages = RowOf({10}, 130, limits);  // the open sentence
    DeviceChoices there(device, room, 6);
    there.SetRows(
        {fits, absent, many_sentences, many_tokens, many_slots, many_pages});
    there.SetScores({{1, 2, 3}, {}, {}, {}, {1, 2, 3}, {1}});
    ASSERT_EQ(there.Choose(0), cudaSuccess);
    const std::vector<ChoiceLists> lists = there.Lists(0);
    const std::vector<ChoiceCounts> counts = there.Counts();
    ASSERT_EQ(lists.size(), 6u);
    EXPECT_TRUE(lists[0] == HostChoice(0, 0).Choose(fits, {1, 2, 3}));
    const int64_t flags[] = {0,           0,           kRowTooLong,
                             kRowTooLong, kRowTooLong, kListTooShort};
    for (size_t i = 0; i < 6; ++i) {
      EXPECT_EQ(counts[i].flags, flags[i]) << i;
      if (i == 0) continue;
      EXPECT_TRUE(lists[i].pages.empty()) << i;
      EXPECT_TRUE(lists[i].missing.empty()) << i;
    }
    // Flags stay until the host has seen them.
    there.SetRows({fits, absent, absent, absent, absent, fits});
    ASSERT_EQ(there.Choose(0), cudaSuccess);
    EXPECT_EQ(there.Counts()[5].flags, kListTooShort);

    ChooseLaunch wrong = there.launch();
    wrong.most_sentences = 33;
    EXPECT_EQ(LaunchChoose(wrong, device.stream()), cudaErrorInvalidValue);
    wrong = there.launch();
    wrong.most_sentences = kMostChoiceSentences + 32;
    EXPECT_EQ(LaunchChoose(wrong, device.stream()), cudaErrorInvalidValue);
    wrong = there.launch();
    wrong.most_pages = 33;
    EXPECT_EQ(LaunchChoose(wrong, device.stream()), cudaErrorInvalidValue);
    wrong = there.launch();
    wrong.most_slots = 1 << 20;
    EXPECT_EQ(LaunchChoose(wrong, device.stream()), cudaErrorInvalidValue);
  });
}

// What the head of choose_kernels.cu says.
TEST(CudaChoose, ReadsAndWritesWhatItSays) {
  std::mt19937 random(6);
  const ChoiceRoom room = {.most_sentences = 1024,
                           .most_pages = 1024,
                           .most_chosen = 128,
                           .most_slots = 256};
  constexpr int64_t kSentences = 700;
  constexpr int64_t kRowBytes = sizeof(ChoosingRow) - 4;  // without padding
  std::vector<int32_t> lengths;
  for (int64_t i = 0; i < kSentences; ++i) {
    lengths.push_back(1 + static_cast<int32_t>(random() % 37));
  }
  ChoiceRow row = RowOf(lengths, 7, {.budget = 500});
  row.num_slots = 256;
  row.whole_pages.assign(row.host_pages.size(), -1);
  for (const bool has_bonus : {false, true}) {
    row.reuse_factor = has_bonus ? 1.5f : 1.0f;
    std::vector<float> scores;
    for (int64_t i = 0; i < kSentences; ++i) {
      scores.push_back(static_cast<float>(random()));
    }
    ForSeeds(1, [&](cuda_sim::SimDevice& device) {
      DeviceChoices there(device, room, 1);
      there.SetRows({row});
      there.SetScores({scores});
      ASSERT_EQ(there.Choose(0), cudaSuccess);
      const ChoiceCounts counts = there.Counts()[0];
      const int64_t pages = counts.hits + counts.misses;
      EXPECT_EQ(counts.misses, pages);
      EXPECT_GT(pages, 30);
      const int64_t bits = (kSentences + 31) / 32 * 4;
      for (const cuda_sim::OperationCount& count :
           cuda_sim::OperationCounts()) {
        if (count.name != "ChooseKernel") continue;
        EXPECT_EQ(count.bytes_read,
                  kRowBytes + 8 * kSentences + bits + 16 * 256 + 4 * pages +
                      4 * counts.misses +
                      static_cast<int64_t>(sizeof(ChoiceCounts)));
        EXPECT_EQ(count.bytes_written,
                  bits + 16 * pages + 12 * pages + 16 * counts.misses + 2 * 4 +
                      static_cast<int64_t>(sizeof(ChoiceCounts)));
        return;
      }
      FAIL() << "the kernel did not run";
    });
  }
}

}  // namespace
}  // namespace sentencekv
