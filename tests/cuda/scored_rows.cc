#include "tests/cuda/scored_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cuda/sentence_score_kernels.h"
#include "kernels/kv_layout.h"

namespace sentencekv {
namespace {

constexpr float kScale = 0.3f;
constexpr float kPriorWeight = 0.7f;
constexpr float kBlend = 0.75f;

// Blocks of entries: any elements, in units that keep scores apart.
std::vector<std::byte> RandomBlocks(SentenceIndexKind kind, int64_t num_blocks,
                                    int64_t dim, std::mt19937& random) {
  std::vector<std::byte> blocks(
      static_cast<size_t>(num_blocks * SentenceBlockBytes(kind, dim)));
  for (std::byte& element : blocks) element = static_cast<std::byte>(random());
  for (size_t vector = 0; vector < blocks.size();
       vector += static_cast<size_t>(SentenceVectorBytes(dim))) {
    for (int64_t i = 0; i < kBlockEntries; ++i) {
      const float unit = (1.0f + static_cast<float>(random() % 8)) / 512.0f;
      std::memcpy(blocks.data() + vector + dim * kBlockEntries +
                      i * static_cast<int64_t>(sizeof(unit)),
                  &unit, sizeof(unit));
    }
  }
  return blocks;
}

}  // namespace

std::vector<float> RandomFloats(int64_t count, std::mt19937& random) {
  std::vector<float> values(static_cast<size_t>(count));
  std::normal_distribution<float> normal;
  for (float& value : values) value = normal(random);
  return values;
}

ScoredRows::ScoredRows(cuda_sim::SimDevice& device, const ScoredShape& shape,
                       const std::vector<ScoredRow>& rows, std::mt19937& random)
    : device_(device), shape_(shape) {
  const int64_t num_blocks = SentenceBlocks(shape.room.most_sentences);
  for (const ScoredRow& row : rows) {
    ScoringRow there;
    // Heads lie a little apart.
    const auto block_stride =
        num_blocks * SentenceBlockBytes(row.kind, shape.head_dim) + 64;
    std::vector<std::byte> blocks;
    for (int64_t i = 0; i < num_places(); ++i) {
      const auto of_head =
          RandomBlocks(row.kind, num_blocks, shape.head_dim, random);
      blocks.insert(blocks.end(), of_head.begin(), of_head.end());
      blocks.resize(static_cast<size_t>((i + 1) * block_stride));
    }
    there.blocks = device.Upload(blocks);
    there.block_stride = block_stride;
    if (row.kind == SentenceIndexKind::kSign) {
      there.sign_stride =
          shape.room.most_pages * SignStripBytes(shape.head_dim) + 32;
      std::vector<std::byte> signs(
          static_cast<size_t>(num_places() * there.sign_stride));
      for (std::byte& bits : signs) bits = static_cast<std::byte>(random());
      there.signs = device.Upload(signs);
    }
    priors_.push_back(RandomFloats(num_places() * row.num_prior, random));
    if (row.has_prior) there.prior = device.Upload(priors_.back());
    const std::vector<float> no_sums(static_cast<size_t>(num_sums()), NAN);
    host_sums_.push_back(row.has_blend ? device.Upload(no_sums) : nullptr);
    if (row.has_blend) there.query_sums = device.Upload(no_sums);
    there_.push_back(there);
  }
  rows_ = device.Device<ScoringRow>(rows.size());
  exponents_ = device.Device<float>(
      static_cast<size_t>(std::ssize(rows) * shape.room.num_kv_heads *
                          (shape.num_heads + 1) * shape.room.most_sentences));
  SetRows(rows);
}

RowScoring ScoredRows::Scoring(const float* qkv) const {
  return {.rows = rows_,
          .qkv = qkv,
          .num_heads = shape_.num_heads,
          .head_dim = shape_.head_dim,
          .scale = kScale,
          .num_processors = shape_.num_processors,
          .exponents = exponents_};
}

void ScoredRows::SetRows(const std::vector<ScoredRow>& rows) {
  for (size_t i = 0; i < rows.size(); ++i) {
    const ScoredRow& row = rows[i];
    ScoringRow& there = there_[i];
    there.kind = row.kind;
    there.query_row = row.query_row;
    there.num_prior = row.num_prior;
    there.prior_weight = kPriorWeight;
    there.blend = kBlend;
    there.num_summed = row.num_summed;
    there.num_refined = row.num_refined;
  }
  const ScoringRow* const copy = device_.Upload(there_);
  EXPECT_EQ(cudaMemcpyAsync(rows_, copy, there_.size() * sizeof(ScoringRow),
                            cudaMemcpyDeviceToDevice, device_.stream()),
            cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(device_.stream()), cudaSuccess);
}

std::vector<std::vector<float>> ScoredRows::HostScores(
    const float* qkv, int64_t layer, const std::vector<ChoiceRow>& rows) {
  const int64_t num_kv_heads = shape_.room.num_kv_heads;
  std::vector<std::vector<float>> scores(rows.size() *
                                         static_cast<size_t>(num_kv_heads));
  std::vector<ScoreSentencesTask> tasks;
  std::vector<size_t> choices;
  ScoreSentencesLaunch launch = {.num_heads = shape_.num_heads,
                                 .head_dim = shape_.head_dim,
                                 .scale = kScale};
  for (size_t choice = 0; choice < scores.size(); ++choice) {
    const size_t r = choice / static_cast<size_t>(num_kv_heads);
    const auto g = static_cast<int64_t>(choice) % num_kv_heads;
    const ChoiceRow& row = rows[r];
    const ScoringRow& there = there_[r];
    const int64_t count = std::ssize(row.ends);
    if (count == 0 || count > shape_.room.most_sentences ||
        row.num_tokens <= row.limits.num_dense) {
      continue;
    }
    const int64_t place = layer * num_kv_heads + g;
    const int64_t sums = place * shape_.group_width();
    std::vector<float> prior(
        priors_[r].begin() + place * there.num_prior,
        priors_[r].begin() + (place + 1) * there.num_prior);
    prior.resize(static_cast<size_t>(count));
    const bool has_signs = there.signs != nullptr;
    tasks.push_back(
        {.kind = there.kind,
         .q = qkv + there.query_row * shape_.row_width() +
              g * shape_.group_width(),
         .blocks = there.blocks + place * there.block_stride,
         .num_entries = count,
         .first_score = launch.sum_entries,
         .prior = there.prior == nullptr ? nullptr : device_.Upload(prior),
         .prior_weight = there.prior_weight,
         .scores = device_.Device<float>(static_cast<size_t>(count)),
         .signs = has_signs ? there.signs + place * there.sign_stride : nullptr,
         .ends = device_.Upload(row.ends),
         .query_sum = host_sums_[r] == nullptr ? nullptr : host_sums_[r] + sums,
         .num_summed = there.num_summed,
         .blend = there.blend,
         .num_refined = there.num_refined == 0
                            ? 0
                            : there.num_refined - row.limits.budget +
                                  row.OfHead(place).limits.budget});
    choices.push_back(choice);
    launch.sum_entries += count;
    launch.most_entries = std::max(launch.most_entries, count);
  }
  launch.tasks = device_.Upload(tasks);
  launch.num_tasks = std::ssize(tasks);
  launch.workspace = device_.Device<float>(static_cast<size_t>(
      ScoreWorkspaceFloats(launch.sum_entries, shape_.num_heads)));
  EXPECT_EQ(LaunchScoreSentences(launch, device_.stream()), cudaSuccess);
  for (size_t i = 0; i < tasks.size(); ++i) {
    scores[choices[i]] = device_.Download(
        tasks[i].scores, static_cast<size_t>(tasks[i].num_entries));
  }
  return scores;
}

std::vector<float> ScoredRows::Sums(int64_t row) const {
  const float* const sums = there_[static_cast<size_t>(row)].query_sums;
  return device_.Download(sums, sums == nullptr ? 0 : num_sums());
}

std::vector<float> ScoredRows::HostSums(int64_t row) const {
  const float* const sums = host_sums_[static_cast<size_t>(row)];
  return device_.Download(sums, sums == nullptr ? 0 : num_sums());
}

std::vector<float> ScoredRows::Scores(int64_t choice,
                                      int64_t num_sentences) const {
  return device_.Download(
      exponents_ + choice * (shape_.num_heads + 1) * shape_.room.most_sentences,
      static_cast<size_t>(num_sentences));
}

}  // namespace sentencekv
