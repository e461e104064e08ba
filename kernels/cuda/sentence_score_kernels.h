// Scores of sentences for rows and KV heads, from the entries that
// kernels/cuda/sentence_index_kernels.h writes, for a host that knows how many
// there are. For one that does not wait: kernels/cuda/score_rows_kernels.h.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/sentence_block.h"

namespace sentencekv {

// SentenceScoreItem in device memory; all pointers are to device memory (scores
// may also be pinned host memory: they are written once).
struct ScoreSentencesTask {
  SentenceIndexKind kind = SentenceIndexKind::kMean;
  const float* q = nullptr;  // [heads, D], turned
  const std::byte* blocks = nullptr;
  int64_t num_entries = 0;       // at least 1
  int64_t first_score = 0;       // entries of the tasks before it
  const float* prior = nullptr;  // [num_entries] or null
  float prior_weight = 1;
  float* scores = nullptr;           // [num_entries]
  const std::byte* signs = nullptr;  // of kSign
  const int32_t* ends = nullptr;     // of kSign, [num_entries]
  float* query_sum = nullptr;        // [heads, D] or null
  int64_t num_summed = 0;
  float blend = 0;
  int64_t num_refined = 0;
};

struct ScoreSentencesLaunch {
  const ScoreSentencesTask* tasks = nullptr;
  int64_t num_tasks = 0;
  int64_t num_heads = 0;  // query heads of a KV head, H / G
  int64_t head_dim = 0;   // D, a multiple of 8
  float scale = 0;
  int64_t most_entries = 0;    // of one task
  int64_t sum_entries = 0;     // of all tasks
  float* workspace = nullptr;  // ScoreWorkspaceFloats
};

// Exponents of each head, and scores of a first look.
constexpr int64_t ScoreWorkspaceFloats(int64_t sum_entries, int64_t num_heads) {
  return (num_heads + 1) * sum_entries;
}

// cudaErrorInvalidValue where D is no multiple of 8 in 8..256.
cudaError_t LaunchScoreSentences(const ScoreSentencesLaunch& launch,
                                 cudaStream_t stream);

}  // namespace sentencekv
