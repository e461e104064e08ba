// Scores of sentences on the device, against the CPU backend on the same
// entries.
#include "kernels/cuda/sentence_score_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "fmt/format.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/cuda/sentence_entries.h"
#include "tests/cuda/simulated_device.h"

namespace sentencekv {
namespace {

constexpr SentenceIndexKind kKinds[] = {SentenceIndexKind::kMean,
                                        SentenceIndexKind::kMinMax,
                                        SentenceIndexKind::kSign};
constexpr float kScale = 0.3f;

// One task, and memory for it.
struct Question {
  const SentenceEntries* entries = nullptr;  // of one KV head
  int64_t count = 0;
  std::vector<float> q;          // [heads, D]
  std::vector<float> prior;      // [count] or none
  std::vector<float> query_sum;  // [heads, D] or none
  float prior_weight = 1;
  int64_t num_summed = 0;
  float blend = 0;
  int64_t num_refined = 0;
  std::vector<float> scores;
};

const float* DataOrNull(const std::vector<float>& values) {
  return values.empty() ? nullptr : values.data();
}

void AskCpu(int64_t heads, std::vector<Question>* questions) {
  const auto backend = MakeCpuBackend({.num_threads = 1}).value();
  std::vector<SentenceScoreItem> items;
  for (Question& question : *questions) {
    const SentenceEntries& entries = *question.entries;
    question.scores.assign(static_cast<size_t>(question.count), NAN);
    items.push_back({.kind = entries.kind,
                     .q = question.q.data(),
                     .blocks = entries.blocks.data(),
                     .num_entries = question.count,
                     .prior = DataOrNull(question.prior),
                     .prior_weight = question.prior_weight,
                     .scores = question.scores.data(),
                     .signs = entries.signs.data(),
                     .ends = entries.ends.data(),
                     .num_refined = question.num_refined,
                     .query_sum = question.query_sum.empty()
                                      ? nullptr
                                      : question.query_sum.data(),
                     .num_summed = question.num_summed,
                     .blend = question.blend});
  }
  EXPECT_TRUE(backend
                  ->ScoreSentences({.items = items.data(),
                                    .num_items = std::ssize(items),
                                    .num_heads = heads,
                                    .head_dim = questions->at(0).entries->dim,
                                    .scale = kScale})
                  .ok());
}

// A task of one question in device memory.
ScoreSentencesTask Upload(cuda_sim::SimDevice& device,
                          const Question& question) {
  const SentenceEntries& entries = *question.entries;
  return {
      .kind = entries.kind,
      .q = device.Upload(question.q),
      .blocks = device.Upload(entries.TurnedBlocks()),
      .num_entries = question.count,
      .prior = question.prior.empty() ? nullptr : device.Upload(question.prior),
      .prior_weight = question.prior_weight,
      .scores = device.Upload(
          std::vector<float>(static_cast<size_t>(question.count), NAN)),
      .signs = device.Upload(entries.signs),
      .ends = device.Upload(entries.ends),
      .query_sum = question.query_sum.empty()
                       ? nullptr
                       : device.Upload(question.query_sum),
      .num_summed = question.num_summed,
      .blend = question.blend,
      .num_refined = question.num_refined};
}

void AskDevice(cuda_sim::SimDevice& device, int64_t heads,
               std::vector<Question>* questions) {
  std::vector<ScoreSentencesTask> tasks;
  ScoreSentencesLaunch launch;
  for (const Question& question : *questions) {
    tasks.push_back(Upload(device, question));
    tasks.back().first_score = launch.sum_entries;
    launch.sum_entries += question.count;
    launch.most_entries = std::max(launch.most_entries, question.count);
  }
  launch.tasks = device.Upload(tasks);
  launch.num_tasks = std::ssize(tasks);
  launch.num_heads = heads;
  launch.head_dim = questions->at(0).entries->dim;
  launch.scale = kScale;
  launch.workspace =
      device.Device<float>(ScoreWorkspaceFloats(launch.sum_entries, heads));
  EXPECT_EQ(LaunchScoreSentences(launch, device.stream()), cudaSuccess);
  for (size_t i = 0; i < tasks.size(); ++i) {
    Question& question = questions->at(i);
    question.scores =
        device.Download(tasks[i].scores, static_cast<size_t>(question.count));
    question.query_sum =
        device.Download(tasks[i].query_sum, question.query_sum.size());
  }
}

void ExpectNear(const std::vector<float>& actual,
                const std::vector<float>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    // Written so that NaN fails.
    ASSERT_TRUE(std::fabs(actual[i] - expected[i]) <=
                4e-5 * (0.01 + std::fabs(expected[i])))
        << i << ": " << actual[i] << " for " << expected[i];
  }
}

class CudaSentenceScore : public testing::Test {
 protected:
  // Entries of one KV head of a random sequence.
  SentenceEntries Entries(SentenceIndexKind kind, int64_t dim) {
    const PagedStep step({.num_heads = 1, .num_kv_heads = 1, .head_dim = dim},
                         {{299, 1}}, 5);
    SentenceEntries entries(kind, dim, 1, SomeEnds(300));
    entries.Build(*MakeCpuBackend({.num_threads = 1}).value(), step);
    return entries;
  }
  std::vector<float> Random(int64_t count) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& x : values) x = normal_(random_);
    return values;
  }
  // The same questions to both.
  void ExpectCpu(int64_t heads, const std::vector<Question>& questions,
                 uint64_t num_seeds) {
    std::vector<Question> expected = questions;
    AskCpu(heads, &expected);
    ForSeeds(num_seeds, [&](cuda_sim::SimDevice& device) {
      std::vector<Question> actual = questions;
      AskDevice(device, heads, &actual);
      for (size_t i = 0; i < actual.size(); ++i) {
        SCOPED_TRACE(fmt::format("question {}", i));
        ExpectNear(actual[i].scores, expected[i].scores);
        ExpectNear(actual[i].query_sum, expected[i].query_sum);
      }
    });
  }

  std::mt19937 random_{3};
  std::normal_distribution<float> normal_;
};

TEST_F(CudaSentenceScore, EqualsTheCpu) {
  for (const int64_t dim : {8, 40, 64, 256}) {
    for (const SentenceIndexKind kind : kKinds) {
      const SentenceEntries whole = Entries(kind, dim);
      for (const int64_t heads : {1, 3, 4, 5, 8}) {
        for (const int64_t count : {int64_t{1}, int64_t{15}, whole.count()}) {
          if (dim != 40 && (heads != 5 || count == 15)) continue;
          SCOPED_TRACE(fmt::format("dim {}, kind {}, {} heads, {} entries", dim,
                                   static_cast<int>(kind), heads, count));
          const Question plain = {
              .entries = &whole, .count = count, .q = Random(heads * dim)};
          Question with_prior = plain;
          with_prior.prior = Random(count);
          with_prior.prior_weight = 0.7f;
          ExpectCpu(heads, {plain, with_prior},
                    count == 1 && dim == 40 ? 20 : 3);
        }
      }
    }
  }
}

TEST_F(CudaSentenceScore, LooksAtTheSignsOfTheBest) {
  const SentenceEntries entries = Entries(SentenceIndexKind::kSign, 64);
  for (const int64_t heads : {3, 5}) {
    std::vector<Question> questions;
    for (const int64_t num_refined : {1, 100, 150, 299, 2000}) {
      questions.push_back({.entries = &entries,
                           .count = entries.count(),
                           .q = Random(heads * 64),
                           .num_refined = num_refined});
    }
    ExpectCpu(heads, questions, 20);
  }
}

// More entries than one block of threads takes.
TEST_F(CudaSentenceScore, TakesManyEntries) {
  const PagedStep step({.num_heads = 1, .num_kv_heads = 1, .head_dim = 16},
                       {{1499, 1}}, 5);
  std::vector<int32_t> ends;
  for (int32_t end = 2; end <= 1500; end += 2) ends.push_back(end);
  for (const SentenceIndexKind kind : kKinds) {
    SentenceEntries entries(kind, 16, 1, ends);
    entries.Build(*MakeCpuBackend({.num_threads = 1}).value(), step);
    ExpectCpu(
        2,
        {{.entries = &entries, .count = entries.count(), .q = Random(2 * 16)}},
        3);
  }
}

// Tasks of every kind and size in one operation; each gets the bits it gets
// alone.
TEST_F(CudaSentenceScore, ATaskDoesNotDependOnOthers) {
  const int64_t dim = 24;
  std::vector<SentenceEntries> entries;
  for (const SentenceIndexKind kind : kKinds) {
    entries.push_back(Entries(kind, dim));
  }
  std::vector<Question> questions;
  for (int64_t i = 0; i < 9; ++i) {
    questions.push_back({.entries = &entries[i % 3],
                         .count = i < 6 ? 1 + i * 3 : entries[i % 3].count(),
                         .q = Random(3 * dim)});
  }
  ExpectCpu(3, questions, 3);
  ForSeeds(3, [&](cuda_sim::SimDevice& device) {
    std::vector<Question> together = questions;
    AskDevice(device, 3, &together);
    for (size_t i = 0; i < questions.size(); ++i) {
      std::vector<Question> alone = {questions[i]};
      AskDevice(device, 3, &alone);
      EXPECT_EQ(alone[0].scores, together[i].scores) << i;
    }
  });
}

TEST_F(CudaSentenceScore, QueriesAreBlended) {
  const SentenceEntries entries = Entries(SentenceIndexKind::kMean, 16);
  Question question = {.entries = &entries,
                       .count = entries.count(),
                       // What an earlier sentence has left does not count.
                       .query_sum = std::vector<float>(2 * 16, 1e9f),
                       .blend = 0.75f};
  for (int64_t i = 0; i < 4; ++i) {
    question.q = Random(2 * 16);
    question.num_summed = i;
    ExpectCpu(2, {question}, 20);
    std::vector<Question> asked = {question};
    AskCpu(2, &asked);
    question.query_sum = asked[0].query_sum;
  }
}

}  // namespace
}  // namespace sentencekv
