// Scores of the sentences of one row for one KV head, from the exponents that
// vectors of entries give (kernels/cuda/sentence_scoring.h). Device code, for
// .cu files.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/sentence_scoring.h"
#include "kernels/cuda/sentence_signs.h"

namespace sentencekv {

// Each entry adds up its shares: `scores` may be the exponents of the first
// head. The sum of queries gets this one, now that nobody reads it any more.
// All threads of the block call.
__device__ __forceinline__ void FinishScores(const SentenceScoring& scoring,
                                             const ScoringMemory& shared,
                                             float* scores) {
  if (scoring.kind == SentenceIndexKind::kSign) LookAtSigns(scoring, shared);
  FindShares(scoring, shared.shares);
  for (int64_t e = threadIdx.x; e < scoring.num_entries; e += blockDim.x) {
    scores[e] = ScoreOf(scoring, shared.shares, e);
  }
  const BlendedQuery& query = scoring.query;
  const int64_t num_summands =
      query.query_sum == nullptr ? 0 : scoring.num_heads * scoring.head_dim;
  for (int64_t i = threadIdx.x; i < num_summands; i += blockDim.x) {
    query.query_sum[i] = query.Sum(i);
  }
}

}  // namespace sentencekv
