// Scores of a step that reads lengths in device memory, against those of
// LaunchScoreSentences, which sentence_score_kernels_test.cc compares with the
// CPU's: bit for bit, and what is chosen by them.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "kernels/cuda/score_rows_kernels.h"
#include "tests/cuda/choice_steps.h"
#include "tests/cuda/scored_rows.h"
#include "tests/cuda/simulated_device.h"

namespace sentencekv {
namespace {

constexpr SentenceIndexKind kKinds[] = {SentenceIndexKind::kMean,
                                        SentenceIndexKind::kMinMax,
                                        SentenceIndexKind::kSign};

// Equal bits; NaN where nothing was written equals itself.
void ExpectSameBits(const std::vector<float>& actual,
                    const std::vector<float>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_EQ(std::memcmp(&actual[i], &expected[i], sizeof(float)), 0)
        << i << ": " << actual[i] << " for " << expected[i];
  }
}

// The rows of one step, of one layer that is scored and chosen from.
struct Step {
  ScoredShape shape;
  int64_t layer = 0;
  std::vector<ChoiceRow> rows;
  std::vector<ScoredRow> scored;

  bool HasRoom(int64_t row) const {
    const ChoiceRow& text = rows[static_cast<size_t>(row)];
    return text.num_tokens > 0 &&
           std::ssize(text.ends) <= shape.room.most_sentences;
  }
};

class CudaScoreRows : public testing::Test {
 protected:
  // A text of so many sentences, one in eight longer than a warp has lanes.
  ChoiceRow Text(int64_t num_sentences) {
    std::vector<int32_t> lengths;
    for (int64_t i = 0; i < num_sentences; ++i) {
      lengths.push_back(
          1 + static_cast<int32_t>(random_() % (random_() % 8 == 0 ? 40 : 8)));
    }
    ChoiceRow row =
        RowOf(lengths, 3, {.budget = 60, .num_sink = 4, .num_recent = 8});
    row.num_slots = 64;
    return row;
  }

  // Launches the step with each of the seeds, and compares all there is.
  void ExpectHostScores(const Step& step, uint64_t num_seeds) {
    const auto qkv_values =
        RandomFloats(std::ssize(step.rows) * step.shape.row_width(), random_);
    const auto seed = static_cast<uint32_t>(random_());
    ForSeeds(num_seeds, [&](cuda_sim::SimDevice& device) {
      std::mt19937 random(seed);
      ScoredRows scored(device, step.shape, step.scored, random);
      DeviceChoices choices(device, step.shape.room, std::ssize(step.rows));
      choices.SetRows(step.rows);
      const float* const qkv = device.Upload(qkv_values);
      ChooseLaunch launch = choices.launch();
      launch.layer = step.layer;
      launch.scores = nullptr;
      launch.scoring = scored.Scoring(qkv);
      ASSERT_EQ(LaunchScoreRows(launch, device.stream()), cudaSuccess);
      ASSERT_EQ(LaunchChoose(launch, device.stream()), cudaSuccess);
      const std::vector<ChoiceLists> lists = choices.Lists(step.layer);
      ASSERT_FALSE(lists.empty());
      const auto scores = scored.HostScores(qkv, step.layer, step.rows);
      for (size_t i = 0; i < scores.size(); ++i) {
        SCOPED_TRACE(fmt::format("choice {}", i));
        const auto choice = static_cast<int64_t>(i);
        const int64_t r = choice / step.shape.room.num_kv_heads;
        const auto g =
            static_cast<int32_t>(choice % step.shape.room.num_kv_heads);
        ExpectSameBits(scored.Scores(choice, std::ssize(scores[i])), scores[i]);
        ExpectSameBits(scored.Sums(r), scored.HostSums(r));
        if (!step.HasRoom(r)) {
          EXPECT_TRUE(lists[i].pages.empty());
          continue;
        }
        HostChoice host(g, choices.FirstRun(r, step.layer, g));
        const ChoiceRow row =
            step.rows[r].OfHead(step.layer * step.shape.room.num_kv_heads + g);
        EXPECT_TRUE(lists[i] == host.Choose(row, scores[i]));
      }
    });
  }

  std::mt19937 random_{7};
};

// Rows of every kind and size in one launch, with and without prior and blend;
// and some that are not to be scored.
TEST_F(CudaScoreRows, EqualsScoreSentences) {
  constexpr int64_t kMost = 160;
  for (const int64_t dim : {8, 40}) {
    for (const int64_t heads : {1, 3, 4, 5, 8}) {
      if (dim != 8 && heads != 5) continue;
      SCOPED_TRACE(fmt::format("dim {}, {} heads", dim, heads));
      Step step = {.shape = {.room = {.num_layers = 2,
                                      .num_kv_heads = 2,
                                      .most_sentences = kMost,
                                      .most_pages = 128,
                                      .most_chosen = 64},
                             .num_heads = heads,
                             .head_dim = dim,
                             .num_processors = 1 + heads * 8},
                   .layer = 1};
      for (const int64_t count : {int64_t{1}, int64_t{15}, int64_t{0},
                                  int64_t{131}, int64_t{33}, kMost}) {
        const int64_t i = std::ssize(step.rows);
        step.rows.push_back(Text(count));
        step.scored.push_back({.kind = kKinds[i % 3],
                               .has_prior = i % 2 == 1,
                               .has_blend = i % 4 >= 2,
                               .query_row = 5 - i,
                               .num_prior = count * 2 / 3,
                               .num_refined = i < 3 ? 0 : 100});
      }
      step.rows[4].limits.num_dense = 1 << 20;
      step.rows.push_back({});               // absent
      step.rows.push_back(Text(kMost + 1));  // too long
      step.scored.resize(8);
      ExpectHostScores(step, 2);
    }
  }
}

TEST_F(CudaScoreRows, EqualsScoreSentencesOnSmallTexts) {
  for (const SentenceIndexKind kind : kKinds) {
    Step step = {.shape = {.num_heads = 2}};
    for (const int64_t count : {1, 2, 17}) {
      step.rows.push_back(Text(count));
      step.scored.push_back({.kind = kind,
                             .has_prior = count != 2,
                             .has_blend = count != 1,
                             .query_row = std::ssize(step.scored),
                             .num_prior = count,
                             .num_refined = 30});
    }
    ExpectHostScores(step, 20);
  }
}

// KV heads with budgets and slots of their own, of which signs are looked at in
// so many more or fewer tokens.
TEST_F(CudaScoreRows, HeadsHaveLimitsOfTheirOwn) {
  for (const SentenceIndexKind kind : kKinds) {
    Step step = {.shape = {.room = {.num_layers = 2,
                                    .num_kv_heads = 2,
                                    .most_sentences = 64},
                           .num_heads = 2},
                 .layer = 1};
    for (const int64_t num_refined : {0, 80}) {
      step.rows.push_back(Text(50));
      // The other layer's are not read.
      step.rows.back().heads = {{1, 1}, {1, 1}, {110, 64}, {15, 40}};
      step.scored.push_back({.kind = kind,
                             .query_row = std::ssize(step.scored),
                             .num_refined = num_refined});
    }
    ExpectHostScores(step, 20);
  }
}

// More entries than the block of a choice takes at once.
TEST_F(CudaScoreRows, BlocksGoOnWhereTextsAreLong) {
  Step step = {.shape = {.room = {.most_sentences = 640,
                                  .most_pages = 128,
                                  .most_chosen = 128,
                                  .most_slots = 128}}};
  for (const SentenceIndexKind kind : kKinds) {
    step.rows.push_back(RowOf(std::vector<int32_t>(610, 2), 1, {.budget = 90}));
    step.rows.back().num_slots = 128;
    step.scored.push_back({.kind = kind});
  }
  step.rows.resize(8);
  step.scored.resize(8);
  ExpectHostScores(step, 5);
}

// The sum of queries is that of the steps before, for whoever reads it: here
// several blocks of each kernel and choice.
TEST_F(CudaScoreRows, BlendsQueriesOfSeveralSteps) {
  const ScoredShape shape = {.room = {.num_kv_heads = 2, .most_sentences = 160},
                             .num_processors = 2};
  const std::vector<ChoiceRow> rows = {
      RowOf(std::vector<int32_t>(150, 2), 3, {.budget = 40}),
      RowOf(std::vector<int32_t>(12, 5), 3, {.budget = 30})};
  std::vector<ScoredRow> scored = {
      {.has_blend = true},
      {.kind = SentenceIndexKind::kSign, .has_blend = true, .query_row = 1}};
  ForSeeds(20, [&](cuda_sim::SimDevice& device) {
    ScoredRows there(device, shape, scored, random_);
    DeviceChoices choices(device, shape.room, 2);
    choices.SetRows(rows);
    // A sentence that closes begins a new sum.
    for (const int64_t num_summed : {0, 1, 2, 0}) {
      for (ScoredRow& row : scored) row.num_summed = num_summed;
      there.SetRows(scored);
      const float* const qkv =
          device.Upload(RandomFloats(2 * shape.row_width(), random_));
      ChooseLaunch launch = choices.launch();
      launch.scoring = there.Scoring(qkv);
      ASSERT_EQ(LaunchScoreRows(launch, device.stream()), cudaSuccess);
      ASSERT_EQ(LaunchChoose(launch, device.stream()), cudaSuccess);
      ASSERT_EQ(cudaStreamSynchronize(device.stream()), cudaSuccess);
      const auto scores = there.HostScores(qkv, 0, rows);
      for (int64_t i = 0; i < 4; ++i) {
        ExpectSameBits(there.Sums(i / 2), there.HostSums(i / 2));
        ExpectSameBits(there.Scores(i, std::ssize(rows[i / 2].ends)),
                       scores[i]);
      }
    }
  });
}

// What the head of score_rows_kernels.cu says, but for what rows say.
TEST_F(CudaScoreRows, ReadsAndWritesWhatItSays) {
  constexpr int64_t kEntries = 150;
  const ScoredShape shape = {
      .room = {.most_sentences = 160, .most_pages = 64, .most_chosen = 64},
      .num_heads = 3,
      .head_dim = 40};
  for (const SentenceIndexKind kind : kKinds) {
    SCOPED_TRACE(static_cast<int>(kind));
    ForSeeds(1, [&](cuda_sim::SimDevice& device) {
      ScoredRows scored(device, shape, {{.kind = kind}}, random_);
      DeviceChoices choices(device, shape.room, 1);
      choices.SetRows({RowOf(std::vector<int32_t>(kEntries, 5), 3, {})});
      ChooseLaunch launch = choices.launch();
      launch.scoring = scored.Scoring(
          device.Upload(RandomFloats(shape.row_width(), random_)));
      ASSERT_EQ(LaunchScoreRows(launch, device.stream()), cudaSuccess);
      ASSERT_EQ(cudaStreamSynchronize(device.stream()), cudaSuccess);
      std::map<std::string, cuda_sim::OperationCount> counts;
      for (const auto& count : cuda_sim::OperationCounts()) {
        counts[count.name] = count;
      }
      constexpr int64_t kRows = sizeof(ChoosingRow) + sizeof(ScoringRow);
      const int64_t vectors = kEntries * (shape.head_dim + 4);
      const int64_t query = 4 * shape.group_width();
      const int64_t exponents = 4 * kEntries * shape.num_heads;
      const auto& of_vectors = counts["ScoreRowsKernel"];
      const int64_t read =
          query + vectors * (kind == SentenceIndexKind::kMinMax ? 2 : 1);
      EXPECT_GE(of_vectors.bytes_read, read);
      EXPECT_LE(of_vectors.bytes_read, read + kRows);
      EXPECT_EQ(of_vectors.bytes_written, exponents);
    });
  }
}

TEST_F(CudaScoreRows, ScoresNothingWhereAllIsRead) {
  const ScoredShape shape;
  cuda_sim::SimDevice device(1);
  ScoredRows scored(device, shape, {{.kind = SentenceIndexKind::kSign}},
                    random_);
  DeviceChoices choices(device, shape.room, 1);
  choices.SetRows({RowOf({5, 5}, 3, {.num_dense = 13})});
  ChooseLaunch launch = choices.launch();
  launch.scoring =
      scored.Scoring(device.Upload(RandomFloats(shape.row_width(), random_)));
  ASSERT_EQ(LaunchScoreRows(launch, device.stream()), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(device.stream()), cudaSuccess);
  for (const auto& count : cuda_sim::OperationCounts()) {
    if (!count.name.ends_with("RowsKernel")) continue;
    EXPECT_EQ(count.launches, 1) << count.name;
    EXPECT_EQ(count.bytes_written, 0) << count.name;
  }
}

TEST_F(CudaScoreRows, RefusesSizesOutOfRange) {
  cuda_sim::SimDevice device(1);
  DeviceChoices choices(device, {}, 1);
  ChooseLaunch launch = choices.launch();
  launch.scoring.num_processors = 1;
  for (const int64_t dim : {0, 12, 264}) {
    launch.scoring.head_dim = dim;
    EXPECT_EQ(LaunchScoreRows(launch, device.stream()), cudaErrorInvalidValue);
  }
  launch.scoring.head_dim = 16;
  launch.scoring.num_processors = 0;
  EXPECT_EQ(LaunchScoreRows(launch, device.stream()), cudaErrorInvalidValue);
  launch.scoring.num_processors = 1;
  launch.num_rows = 65536;
  EXPECT_EQ(LaunchScoreRows(launch, device.stream()), cudaErrorInvalidValue);
  launch.num_rows = 0;
  EXPECT_EQ(LaunchScoreRows(launch, device.stream()), cudaSuccess);
  launch.num_rows = 1;
  launch.scoring.num_heads = 1 << 16;
  EXPECT_EQ(LaunchChoose(launch, device.stream()), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace sentencekv
