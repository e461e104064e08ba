// scores[e] = prior_weight prior[e] + sum over the query heads of softmax over
// the entries of x(e), in powers of two, where with c = scale log2(e)
//
//   kMean    x = c q . mean
//   kMinMax  x = c (q . middle + |q| . half)
//   kSign    x = c q . mean + log2 of the sum over the sentence's tokens of
//            2^(sum over d of +- c w[d]), where w[d] = q[d] deviation[d] in 8
//            bits. Only of what a first look, with the number of tokens in place
//            of the sum, finds best: num_refined tokens
//
// Two kernels, one after the other:
//   VectorsKernel  c q . mean and the like (sentence_scoring.h): a thread has
//                  an entry and four query heads, the sum in the order of
//                  dimensions; 16 lanes read 128 bytes together. Grid: 128
//                  entries x tasks. Shared memory: 4 D floats.
//   SharesKernel   the rest (sentence_scores.h): a block has a task; for signs
//                  a warp has an entry and a lane a token. Grid: tasks. Shared
//                  memory: ScoringMemoryBytes, at most 20 KiB and 8 bytes a
//                  query head.
// Queries are blended by who reads them; SharesKernel writes their sums.
//
// Alignment: blocks 8 bytes, signs 16. Limits: D a multiple of 8 in 8..256, at
// most 65,535 tasks. Sources: SentenceKV (arXiv 2504.00970), Quest (arXiv
// 2406.10774).
#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sentence_score_kernels.h"
#include "kernels/cuda/sentence_scores.h"

namespace sentencekv {
namespace {

constexpr int kVectorThreads = 128;
constexpr int kShareThreads = 512;
constexpr int64_t kMostTasks = 65535;  // they lie along the grid's y

__device__ __forceinline__ SentenceScoring
ScoringOf(const ScoreSentencesLaunch& launch, const ScoreSentencesTask& task) {
  return {.kind = task.kind,
          .query = {task.q, task.query_sum, task.num_summed, task.blend},
          .blocks = task.blocks,
          .signs = task.signs,
          .ends = task.ends,
          .num_refined = task.num_refined,
          .num_entries = task.num_entries,
          .prior = task.prior,
          .num_prior = task.prior == nullptr ? 0 : task.num_entries,
          .prior_weight = task.prior_weight,
          .num_heads = launch.num_heads,
          .head_dim = launch.head_dim,
          .factor = launch.scale * kLog2E,
          .exponents = launch.workspace + task.first_score,
          .head_stride = launch.sum_entries};
}

__global__ void __launch_bounds__(kVectorThreads)
    VectorsKernel(ScoreSentencesLaunch launch) {
  ScoreVectors(ScoringOf(launch, launch.tasks[blockIdx.y]),
               int64_t{blockIdx.x} * kVectorThreads + threadIdx.x,
               int64_t{gridDim.x} * kVectorThreads, DynamicShared<float>());
}

__global__ void __launch_bounds__(kShareThreads)
    SharesKernel(ScoreSentencesLaunch launch) {
  const ScoreSentencesTask task = launch.tasks[blockIdx.x];
  FinishScores(ScoringOf(launch, task),
               PlanScoring(DynamicShared<unsigned char>(), launch.num_heads),
               task.scores);
}

}  // namespace

cudaError_t LaunchScoreSentences(const ScoreSentencesLaunch& launch,
                                 cudaStream_t stream) {
  const int64_t head_dim = launch.head_dim;
  if (head_dim < 8 || head_dim > 256 || head_dim % 8 != 0 ||
      launch.num_tasks > kMostTasks) {
    return cudaErrorInvalidValue;
  }
  const auto tasks = static_cast<unsigned>(launch.num_tasks);
  const auto of_vectors =
      dim3(static_cast<unsigned>(CeilDiv(launch.most_entries, kVectorThreads)),
           tasks);
  const cudaError_t error = Launch(VectorsKernel,
                                   {of_vectors, dim3(kVectorThreads),
                                    kHeadsTogether * head_dim * sizeof(float)},
                                   stream, launch);
  if (error != cudaSuccess) return error;
  return Launch(SharesKernel,
                {dim3(tasks), dim3(kShareThreads),
                 static_cast<size_t>(ScoringMemoryBytes(
                     launch.num_heads, head_dim, kShareThreads / kWarpSize))},
                stream, launch);
}

}  // namespace sentencekv
