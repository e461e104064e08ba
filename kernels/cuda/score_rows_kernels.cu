// exponents[choice][query head][e] = x(e) of sentence_score_kernels.cu, for
// rows x KV heads; the rest of the scores is the beginning of ChooseKernel.
//
//   ScoreRowsKernel  what the entries' vectors give: a thread has an entry and
//                    four query heads. Grid: 8 blocks a processor, shared among
//                    the choices, x choices. Blocks of 128 threads. Shared
//                    memory: 4 D floats.
//   SignRowsKernel   adds what the signs of kSign give: a warp has an entry, a
//                    lane a token. Grid: 4 blocks a processor, in the same way.
//                    Blocks of 256 threads. Shared memory: 32 D floats. A
//                    launch of its own, because 128 entries that share a
//                    block's warps would wait for each other where texts are
//                    short.
//
// So a grid is about what the device holds at a time; blocks go on where there
// are more entries, and end at once where there are fewer. One row of
// Llama-3.1-8B at 128K tokens on an H100 (132 processors, 8 choices, 16,000
// entries): 132 blocks a choice, an entry for each thread; 17 MB of means for a
// layer, 5 us at 3.35 TB/s, as many again for kMinMax. kSign reads 17 MB more
// of signs, but its 540 million signed additions take longer, 36 us where a
// processor turns 64 signs a cycle at 1.7 GHz. Short texts cost the launch.
//
// Reads of global memory for a choice of E entries and S tokens: E (D + 4)
// bytes, twice for kMinMax and kSign; S D / 8 for kSign and 4 E for its ends;
// the query by every block. Writes: 4 E bytes for each query head.
//
// Alignment: blocks 8 bytes, signs 16. Limits: D a multiple of 8 in 8..256, at
// most 65,535 choices.
#include "kernels/cuda/choose_kernels.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_scoring.h"
#include "kernels/cuda/score_rows_kernels.h"
#include "kernels/cuda/sentence_scores.h"

namespace sentencekv {
namespace {

// Blocks of a processor.
constexpr int kVectorBlocks = 8;
constexpr int kSignBlocks = 4;
constexpr int kVectorThreads = 128;
constexpr int kSignThreads = 256;
constexpr int kSignWarps = kSignThreads / kWarpSize;
constexpr int64_t kMostChoices = 65535;  // they lie along the grid's y

__global__ void __launch_bounds__(kVectorThreads)
    ScoreRowsKernel(ChooseLaunch launch) {
  const SentenceScoring scoring = ScoringOf(launch, blockIdx.y);
  const int64_t first = int64_t{blockIdx.x} * kVectorThreads;
  if (first >= scoring.num_entries) return;  // the whole block
  ScoreVectors(scoring, first + threadIdx.x,
               int64_t{gridDim.x} * kVectorThreads, DynamicShared<float>());
}

__global__ void __launch_bounds__(kSignThreads)
    SignRowsKernel(ChooseLaunch launch) {
  const SentenceScoring scoring = ScoringOf(launch, blockIdx.y);
  if (scoring.kind != SentenceIndexKind::kSign) return;  // the whole block
  float* const weights =
      DynamicShared<float>() + WarpId() * kHeadsTogether * scoring.head_dim;
  for (int64_t entry = int64_t{blockIdx.x} * kSignWarps + WarpId();
       entry < scoring.num_entries; entry += int64_t{gridDim.x} * kSignWarps) {
    AddSigns(scoring, entry, weights);
  }
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
  const auto grid = [&](int64_t blocks_per_processor) {
    const int64_t num_blocks =
        blocks_per_processor * launch.scoring.num_processors;
    return dim3(static_cast<unsigned>(CeilDiv(num_blocks, num_choices)),
                static_cast<unsigned>(num_choices));
  };
  const size_t heads_bytes = kHeadsTogether * head_dim * sizeof(float);
  const cudaError_t error = Launch(
      ScoreRowsKernel, {grid(kVectorBlocks), dim3(kVectorThreads), heads_bytes},
      stream, launch);
  if (error != cudaSuccess || !launch.scoring.has_signs) return error;
  return Launch(
      SignRowsKernel,
      {grid(kSignBlocks), dim3(kSignThreads), kSignWarps * heads_bytes}, stream,
      launch);
}

}  // namespace sentencekv
