// exponents[choice][query head][e] = x(e) of sentence_score_kernels.cu, for
// rows x KV heads; the rest of the scores is the beginning of ChooseKernel.
//
//   ScoreRowsKernel  what the entries' vectors give: a thread has an entry and
//                    four query heads. Grid: 8 blocks a processor, shared among
//                    the choices, x choices. Blocks of 128 threads. Shared
//                    memory: 4 D floats.
//
// So a grid is about what the device holds at a time; blocks go on where there
// are more entries, and end at once where there are fewer. One row of
// Llama-3.1-8B at 128K tokens on an H100 (132 processors, 8 choices, 16,000
// entries): 132 blocks a choice, an entry for each thread; 17 MB of means for a
// layer, 5 us at 3.35 TB/s, as many again for kMinMax. Short texts cost the
// launch.
//
// Reads of global memory for a choice of E entries: E (D + 4) bytes, twice for
// kMinMax; the query by every block. Writes: 4 E bytes for each query head.
//
// Alignment: blocks 8 bytes, signs 16. Limits: D a multiple of 8 in 8..256, at
// most 65,535 choices.
#include "kernels/cuda/choose_kernels.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_scoring.h"
#include "kernels/cuda/score_rows_kernels.h"
#include "kernels/cuda/sentence_scoring.h"

namespace sentencekv {
namespace {

// Blocks of a processor.
constexpr int kVectorBlocks = 8;
constexpr int kVectorThreads = 128;
constexpr int64_t kMostChoices = 65535;  // they lie along the grid's y

__global__ void __launch_bounds__(kVectorThreads)
    ScoreRowsKernel(ChooseLaunch launch) {
  const SentenceScoring scoring = ScoringOf(launch, blockIdx.y);
  const int64_t first = int64_t{blockIdx.x} * kVectorThreads;
  if (first >= scoring.num_entries) return;  // the whole block
  ScoreVectors(scoring, first + threadIdx.x,
               int64_t{gridDim.x} * kVectorThreads, DynamicShared<float>());
}

}  // namespace

cudaError_t LaunchScoreRows(const ChooseLaunch& launch, cudaStream_t stream) {
  const int64_t num_choices = launch.num_rows * launch.num_kv_heads;
  const int64_t head_dim = launch.scoring.head_dim;
  if (head_dim < 8 || head_dim > 256 || head_dim % 8 != 0 ||
      num_choices > kMostChoices || launch.scoring.num_processors < 1) {
    return cudaErrorInvalidValue;
  }
  if (num_choices == 0) return cudaSuccess;
  const int64_t num_blocks = kVectorBlocks * launch.scoring.num_processors;
  return Launch(
      ScoreRowsKernel,
      {dim3(static_cast<unsigned>(CeilDiv(num_blocks, num_choices)),
            static_cast<unsigned>(num_choices)),
       dim3(kVectorThreads), kHeadsTogether * head_dim * sizeof(float)},
      stream, launch);
}

}  // namespace sentencekv
