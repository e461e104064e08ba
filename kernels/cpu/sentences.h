// Sharing of the operations on sentences among threads: their entries, their
// scores, the attention that keys get, and the values of keys. Results do not
// depend on the sharing.
#pragma once

#include "kernels/cpu/sentence_kernels.h"
#include "kernels/cpu/worker_pool.h"
#include "kernels/op_params.h"

namespace sentencekv {

// REQUIRES of all: checked arguments, at least one item or query.
void RunIndexSentences(WorkerPool& pool, const IndexSentencesParams& params,
                       const SentenceKernels& kernels);
void RunScoreSentences(WorkerPool& pool, const ScoreSentencesParams& params,
                       const SentenceKernels& kernels);
void RunAttentionMass(WorkerPool& pool, const AttentionMassParams& params,
                      const SentenceKernels& kernels);
// Plain loops: once a prompt.
void RunReadKeys(WorkerPool& pool, const ReadKeysParams& params);

}  // namespace sentencekv
