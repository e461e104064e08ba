// Rows with entries of sentences in device memory, scored in both ways: by a
// step that reads lengths there, and by LaunchScoreSentences, whose lengths
// come from the host.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "kernels/cuda/score_rows_kernels.h"
#include "tests/cuda/choice_steps.h"
#include "tests/support/cuda_sim/sim_device.h"

namespace sentencekv {

// What stays the same from step to step.
struct ScoredShape {
  ChoiceRoom room;
  int64_t num_heads = 1;  // query heads of a KV head
  int64_t head_dim = 8;
  int64_t num_processors = 1;

  int64_t row_width() const {
    return room.num_kv_heads * (num_heads + 2) * head_dim;
  }
  int64_t group_width() const { return num_heads * head_dim; }
};

// How a row is scored at one step.
struct ScoredRow {
  SentenceIndexKind kind = SentenceIndexKind::kMean;
  bool has_prior = false;  // of the first num_prior entries
  bool has_blend = false;
  int64_t query_row = 0;
  int64_t num_summed = 0;
  int64_t num_prior = 0;
  int64_t num_refined = 0;
};

std::vector<float> RandomFloats(int64_t count, std::mt19937& random);

class ScoredRows {
 public:
  // Entries, signs and priors are random, for as many sentences and tokens as
  // there is room for. Those of `rows` that have them must not change later.
  ScoredRows(cuda_sim::SimDevice& device, const ScoredShape& shape,
             const std::vector<ScoredRow>& rows, std::mt19937& random);

  // For the launch; `qkv` is device memory.
  RowScoring Scoring(const float* qkv) const;
  // What the next step reads; the host has waited.
  void SetRows(const std::vector<ScoredRow>& rows);

  // What LaunchScoreSentences gives to each choice of a layer, and has made of
  // the sums of queries: to be asked once a step. Empty where nothing is to be
  // scored.
  std::vector<std::vector<float>> HostScores(
      const float* qkv, int64_t layer, const std::vector<ChoiceRow>& rows);
  // The sums of queries of a row as the steps and LaunchScoreSentences left
  // them, [L, G, group width]; those never written are NaN.
  std::vector<float> Sums(int64_t row) const;
  std::vector<float> HostSums(int64_t row) const;
  // The scores that LaunchChoose has made of the exponents.
  std::vector<float> Scores(int64_t choice, int64_t num_sentences) const;

 private:
  int64_t num_places() const {
    return shape_.room.num_layers * shape_.room.num_kv_heads;
  }
  int64_t num_sums() const { return num_places() * shape_.group_width(); }

  cuda_sim::SimDevice& device_;
  const ScoredShape shape_;
  std::vector<ScoringRow> there_;           // with the device's memory
  std::vector<float*> host_sums_;           // of each row
  std::vector<std::vector<float>> priors_;  // of each row
  ScoringRow* rows_;
  float* exponents_;
};

}  // namespace sentencekv
