// Scores of the sentences of a decode step's rows, for a step that no host
// waits for: what LaunchChoose chooses by. One launch a layer. Grid and
// arguments say nothing about lengths: those are read from ChoosingRows, so
// that a captured launch stays true while texts grow.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/sentence_block.h"

namespace sentencekv {

struct ChooseLaunch;

// What a row's sentences are scored by, in all layers and KV heads; its
// ChoosingRow says how many they are and where they end. In device memory; the
// host writes it before the step. SentenceScoreItem has what is not said here.
struct ScoringRow {
  SentenceIndexKind kind = SentenceIndexKind::kMean;
  int64_t query_row = 0;  // of RowScoring::qkv
  // Entries of layer 0 and KV head 0. Those of layer l and KV head g lie
  // (l G + g) x block_stride bytes behind.
  const std::byte* blocks = nullptr;
  int64_t block_stride = 0;
  const std::byte* signs = nullptr;  // of kSign, in the same way
  int64_t sign_stride = 0;
  int64_t num_refined = 0;       // tokens
  const float* prior = nullptr;  // [L, G, num_prior] or null
  int64_t num_prior = 0;         // entries behind these have 0
  float prior_weight = 1;
  float blend = 0;
  float* query_sums = nullptr;  // [L, H, D] or null; LaunchChoose adds to them
  int64_t num_summed = 0;
};

// The part of a ChooseLaunch that says how its rows are scored.
struct RowScoring {
  const ScoringRow* rows = nullptr;  // null: ChooseLaunch::scores are there
  const float* qkv = nullptr;        // [T, (H + 2 G) D], q turned
  int64_t num_heads = 0;             // query heads of a KV head, H / G
  int64_t head_dim = 0;              // D, a multiple of 8
  float scale = 0;
  int64_t num_processors = 0;  // of the device, which the grids fill
  // [choices, num_heads + 1, most_sentences], scratch.
  float* exponents = nullptr;
  bool operator==(const RowScoring&) const = default;
};

// Leaves exponents for LaunchChoose with the same arguments, the next launch
// that may touch them. cudaErrorInvalidValue for sizes that are out of range.
cudaError_t LaunchScoreRows(const ChooseLaunch& launch, cudaStream_t stream);

}  // namespace sentencekv
