// What one choice of a ChooseLaunch has room for and scores. Device code, for
// .cu files.
#pragma once

#include "kernels/cuda/choose_kernels.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/sentence_scoring.h"
#include "kernels/cuda/token_block.h"

namespace sentencekv {

__device__ __forceinline__ bool FitsRoom(const ChooseLaunch& launch,
                                         const ChoosingRow& row) {
  return row.num_sentences <= launch.most_sentences &&
         row.num_tokens <= launch.most_pages * kPageTokens &&
         row.num_slots <= launch.most_slots;
}

// Of a head: those of one with the row's budget, and what its own is more.
__device__ __forceinline__ int64_t RefinedTokens(const ScoringRow& scored,
                                                 const ChoosingRow& row,
                                                 int64_t head) {
  if (scored.num_refined == 0) return 0;
  return scored.num_refined + row.LimitsOf(head).budget - row.budget;
}

// Without entries where nothing is chosen by score. REQUIRES:
// launch.scoring.rows is not null.
__device__ __forceinline__ SentenceScoring ScoringOf(const ChooseLaunch& launch,
                                                     int64_t choice) {
  const RowScoring& how = launch.scoring;
  const int64_t kv_head = choice % launch.num_kv_heads;
  // Of the arrays of all layers and KV heads.
  const int64_t place = launch.layer * launch.num_kv_heads + kv_head;
  const int64_t group_width = how.num_heads * how.head_dim;
  const int64_t row_width =
      launch.num_kv_heads * (group_width + 2 * how.head_dim);
  const ChoosingRow& row = launch.rows[choice / launch.num_kv_heads];
  if (row.num_tokens == 0 || row.is_whole() || !FitsRoom(launch, row)) {
    return {};
  }
  const ScoringRow& scored = how.rows[choice / launch.num_kv_heads];
  const bool has_signs = scored.kind == SentenceIndexKind::kSign;
  const bool has_prior = scored.prior != nullptr;
  return {
      .kind = scored.kind,
      .query = {how.qkv + scored.query_row * row_width + kv_head * group_width,
                scored.query_sums == nullptr
                    ? nullptr
                    : scored.query_sums + place * group_width,
                scored.num_summed, scored.blend},
      .blocks = scored.blocks + place * scored.block_stride,
      .signs = has_signs ? scored.signs + place * scored.sign_stride : nullptr,
      .ends = row.ends,
      .num_refined = RefinedTokens(scored, row, place),
      .num_entries = row.num_sentences,
      .prior = has_prior ? scored.prior + place * scored.num_prior : nullptr,
      .num_prior = has_prior ? scored.num_prior : 0,
      .prior_weight = scored.prior_weight,
      .num_heads = how.num_heads,
      .head_dim = how.head_dim,
      .factor = how.scale * kLog2E,
      .exponents =
          how.exponents + choice * (how.num_heads + 1) * launch.most_sentences,
      .head_stride = launch.most_sentences};
}

}  // namespace sentencekv
