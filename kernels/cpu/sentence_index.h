// Building and scoring of sentence entries; kernels/sentence_block.h has their
// layout.
#pragma once

#include <cstdint>

#include "kernels/cpu/worker_pool.h"
#include "kernels/op_params.h"

namespace sentencekv {

// Scores one item. Scratch: 5 * 16 * blocks floats.
using ScoreSentencesKernel = void (*)(const SentenceScoreItem& item,
                                      int64_t num_heads, int64_t head_dim,
                                      float scale, float* scratch);

// Arguments are checked, with at least one item.
void RunIndexSentences(WorkerPool& pool, const IndexSentencesParams& params);
void RunScoreSentences(WorkerPool& pool, const ScoreSentencesParams& params,
                       ScoreSentencesKernel kernel);

}  // namespace sentencekv
