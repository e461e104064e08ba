// Choosing sentences on the device, against SentenceSelector.
#include "kernels/cuda/choose_kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "tests/cuda/choice_steps.h"
#include "tests/cuda/simulated_device.h"

namespace sentencekv {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<int32_t> Lengths(int64_t count, int32_t most,
                             std::mt19937& random) {
  std::vector<int32_t> lengths;
  for (int64_t i = 0; i < count; ++i) {
    lengths.push_back(1 + static_cast<int32_t>(random() % most));
  }
  return lengths;
}

// Room for one row, slots and lists for all its pages.
ChoiceRoom RoomFor(const ChoiceRow& row) {
  const auto up = [](int64_t count) { return (count + 31) / 32 * 32; };
  const int64_t pages = up(row.num_tokens / kPageTokens + 1);
  return {.most_sentences = up(std::ssize(row.ends) + 1),
          .most_pages = pages,
          .most_chosen = pages,
          .most_slots = pages};
}

void ExpectHostChoice(cuda_sim::SimDevice& device, ChoiceRow row,
                      const std::vector<float>& scores) {
  const ChoiceRoom room = RoomFor(row);
  row.num_slots = static_cast<int32_t>(room.most_slots);
  DeviceChoices there(device, room, 1);
  there.SetRows({row});
  there.SetScores({scores});
  ASSERT_EQ(there.Choose(0), cudaSuccess);
  const std::vector<ChoiceLists> lists = there.Lists(0);
  ASSERT_EQ(lists.size(), 1u);
  HostChoice host(0, 0);
  const ChoiceLists expected = host.Choose(row, scores);
  EXPECT_EQ(lists[0].sentences, expected.sentences);
  EXPECT_EQ(lists[0].pages, expected.pages);
  EXPECT_EQ(lists[0].masks, expected.masks);
  EXPECT_TRUE(lists[0] == expected);
}

TEST(CudaChoose, EqualsTheSelectorOnRandomTexts) {
  std::mt19937 random(1);
  for (int i = 0; i < 60; ++i) {
    SCOPED_TRACE(i);
    const SelectionLimits limits = {
        .budget = static_cast<int64_t>(random() % 200),
        .num_sink = static_cast<int64_t>(random() % 40),
        .num_recent = 1 + static_cast<int64_t>(random() % 70)};
    const ChoiceRow row =
        RowOf(Lengths(random() % 90, i % 2 == 0 ? 5 : 60, random),
              1 + random() % 40, limits);
    std::vector<float> scores;
    // Many are equal in some, and all of one bin in others.
    for (size_t s = 0; s < row.ends.size(); ++s) {
      const float x = static_cast<float>(random() % 1000) / 1000.0f;
      scores.push_back(i % 3 == 0   ? std::floor(x * 4)
                       : i % 3 == 1 ? std::exp(-20 * x)
                                    : 1.0f + x / 100);
    }
    ForSeeds(i < 6 ? 20 : 1, [&](cuda_sim::SimDevice& device) {
      ExpectHostChoice(device, row, scores);
    });
  }
}

struct Text {
  std::string name;
  ChoiceRow row;
  std::vector<float> scores;
};

std::vector<Text> HostileTexts() {
  std::mt19937 random(2);
  std::vector<Text> texts;
  const SelectionLimits limits = {.budget = 64};
  const auto add = [&](const std::string& name, const ChoiceRow& row,
                       auto&& score) {
    Text text = {name, row, {}};
    for (size_t i = 0; i < row.ends.size(); ++i) {
      text.scores.push_back(score(i));
    }
    texts.push_back(text);
  };
  const auto equal = [](size_t) { return 0.25f; };
  const auto any = [&](size_t) {
    return std::exp2(-static_cast<float>(random() % 4096) / 256.0f);
  };
  const std::vector<int32_t> usual = Lengths(100, 38, random);
  add("no sentence", RowOf({}, 333, limits), equal);
  add("one token", RowOf({}, 1, limits), equal);
  add("one endless sentence, open", RowOf({3}, 5000, limits), equal);
  add("one endless sentence, closed", RowOf({5000}, 100, limits), equal);
  add("an endless one that fits", RowOf({900, 4, 5}, 90, {.budget = 1000}),
      any);
  add("budget 0", RowOf(usual, 10, {.budget = 0}), any);
  add("budget 1", RowOf(usual, 10, {.budget = 1}), any);
  add("budget larger than the text", RowOf(usual, 10, {.budget = 1 << 20}),
      any);
  add("nothing always there",
      RowOf(usual, 1, {.budget = 100, .num_sink = 0, .num_recent = 1}), any);
  add("more recent than there is",
      RowOf({3, 4, 5}, 2, {.budget = 4, .num_sink = 2, .num_recent = 64}), any);
  add("dense", RowOf(usual, 10, {.budget = 64, .num_dense = 1 << 20}), any);
  add("equal scores", RowOf(usual, 10, {.budget = 500}), equal);
  add("all -inf", RowOf(usual, 10, {.budget = 500}),
      [](size_t) { return -kInfinity; });
  add("inf, -inf, NaN and zeros of both signs", RowOf(usual, 10, limits),
      [](size_t i) {
        const float values[] = {kInfinity, -kInfinity, 0.0f, -0.0f, NAN, -1.0f};
        return values[i % 6];
      });
  // After 16 in a row that do not fit, the ones that would are not looked at.
  for (const int64_t misfits : {15, 16, 17, 40}) {
    std::vector<int32_t> lengths(static_cast<size_t>(misfits), 50);
    lengths.insert(lengths.end(), {7, 3, 3, 3});
    add(fmt::format("{} misfits", misfits), RowOf(lengths, 64, {.budget = 9}),
        [](size_t i) { return 100.0f - static_cast<float>(i); });
    add(fmt::format("{} misfits of many bins", misfits),
        RowOf(lengths, 64, {.budget = 9}),
        [](size_t i) { return std::exp2(-static_cast<float>(i)); });
  }
  // The misfits of one walk and the next: one that fits in between, or none.
  std::vector<int32_t> walks(9, 60);
  walks.push_back(3);
  walks.insert(walks.end(), 10, 60);
  walks.push_back(3);
  add("a walk begins with one that fits", RowOf(walks, 64, {.budget = 9}),
      [](size_t i) { return std::exp2(-static_cast<float>(i)); });
  std::vector<int32_t> long_ones(300, 60);
  long_ones[15] = 3;
  add("15 misfits of equal scores", RowOf(long_ones, 64, {.budget = 9}), equal);
  // The budget is left with a few tokens, for which all texts are searched.
  std::vector<int32_t> pairs(600, 40);
  for (size_t i = 0; i < pairs.size(); i += 15) pairs[i] = 3;
  add("rests in all bins", RowOf(pairs, 64, {.budget = 400}),
      [](size_t i) { return std::exp2(-static_cast<float>(i) / 8.0f); });
  return texts;
}

TEST(CudaChoose, EqualsTheSelectorOnHostileTexts) {
  for (const Text& text : HostileTexts()) {
    SCOPED_TRACE(text.name);
    ForSeeds(text.row.num_tokens < 2000 ? 3 : 1,
             [&](cuda_sim::SimDevice& device) {
               ExpectHostChoice(device, text.row, text.scores);
             });
  }
}

// More in one bin than is sorted at once: by scores that differ late, by
// position only, and by both; budgets that end within.
TEST(CudaChoose, LooksAtLaterBitsOfFullBins) {
  const std::vector<int32_t> ones(3000, 1);
  std::mt19937 random(3);
  for (const int64_t budget : {1, 700, 2919}) {
    const ChoiceRow row = RowOf(ones, 1, {.budget = budget});
    for (const int kind : {0, 1, 2, 3}) {
      SCOPED_TRACE(fmt::format("budget {} kind {}", budget, kind));
      std::vector<float> scores;
      for (size_t i = 0; i < ones.size(); ++i) {
        const auto below = static_cast<uint32_t>(random());
        const uint32_t bits = kind == 0   ? 0
                              : kind == 1 ? below % (1 << 21)
                              : kind == 2 ? below % (1 << 10)
                                          : below % 2 << 20;
        scores.push_back(std::bit_cast<float>(0x3f800000u + bits));
      }
      ForSeeds(1, [&](cuda_sim::SimDevice& device) {
        ExpectHostChoice(device, row, scores);
      });
    }
  }
}

// A text of 128K tokens, in sentences of 19; and 16,000 of one token.
TEST(CudaChoose, EqualsTheSelectorOnLongTexts) {
  std::mt19937 random(4);
  for (const bool is_short : {false, true}) {
    SCOPED_TRACE(is_short);
    const std::vector<int32_t> lengths =
        is_short ? std::vector<int32_t>(16000, 1) : Lengths(6800, 37, random);
    const ChoiceRow row = RowOf(lengths, 30, {.budget = 2048});
    for (const float spread : {0.5f, 20.0f}) {
      std::vector<float> scores;
      for (size_t i = 0; i < lengths.size(); ++i) {
        scores.push_back(
            std::exp2(-spread * static_cast<float>(random() % 65536) / 65536));
      }
      ForSeeds(1, [&](cuda_sim::SimDevice& device) {
        ExpectHostChoice(device, row, scores);
      });
    }
  }
}

// What the step before chose counts more, also of sentences that are new.
TEST(CudaChoose, AddsTheReuseBonus) {
  std::mt19937 random(5);
  ForSeeds(5, [&](cuda_sim::SimDevice& device) {
    const ChoiceRoom room = {.num_kv_heads = 2};
    DeviceChoices there(device, room, 1);
    HostChoice hosts[] = {{0, there.FirstRun(0, 0, 0)},
                          {1, there.FirstRun(0, 0, 1)}};
    std::vector<int32_t> lengths = Lengths(20, 9, random);
    for (uint32_t step = 1; step <= 8; ++step) {
      lengths.push_back(1 + static_cast<int32_t>(random() % 9));
      ChoiceRow row =
          RowOf(lengths, 3, {.budget = 40, .num_sink = 4, .num_recent = 4});
      row.reuse_factor = 1.25f;
      // A step that reads everything forgets what was chosen.
      if (step == 5) row.limits.num_dense = 1000;
      row.use = step;
      row.num_slots = 64;
      std::vector<std::vector<float>> scores(2);
      for (auto& of_head : scores) {
        for (size_t i = 0; i < lengths.size(); ++i) {
          of_head.push_back(static_cast<float>(random() % 64) / 64.0f);
        }
      }
      there.SetRows({row});
      there.SetScores(scores);
      ASSERT_EQ(there.Choose(0), cudaSuccess);
      const std::vector<ChoiceLists> lists = there.Lists(0);
      ASSERT_EQ(lists.size(), 2u);
      for (size_t g = 0; g < 2; ++g) {
        EXPECT_TRUE(lists[g] == hosts[g].Choose(row, scores[g]))
            << "step " << step << " head " << g;
      }
    }
  });
}

}  // namespace
}  // namespace sentencekv
