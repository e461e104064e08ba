// Attention over one tile, in the Simd of the including file's level. Included
// only by attention_LEVEL.cc. Order of arithmetic: attention_tile.h.
//
// Two ways to the same bits. Few queries (decoding) read K and V from their
// pages, converting as they go, and prefetch the next block: the time is that
// of reading memory. Many queries (prefill) convert each block once into float
// panels that all of them share: the time is that of the multiplications.
#pragma once

#include "kernels/cpu/attention_group.h"
#include "kernels/cpu/attention_sources.h"
#include "kernels/cpu/attention_state.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/simd.h"

namespace sentencekv {
namespace {

// Up to this many queries read pages directly. Measured: with AVX-512, whose
// conversions are cheap, a fill of the panels pays from five passes on, else
// from three.
constexpr int64_t kDirectQueries = (Simd::kLanes == 16 ? 4 : 2) * kGroupQueries;

// Runs the blocks of one partition over all queries of the tile.
template <DType kType>
void AttendPartition(const AttentionTile& tile, const TileState& state,
                     int64_t partition) {
  const int64_t queries = tile.num_queries();
  const int64_t kv_len = tile.position + tile.num_rows;
  const int64_t begin = partition * kPartitionTokens;
  int64_t end = begin + kPartitionTokens;
  if (end > kv_len) end = kv_len;
  const bool direct =
      queries <= kDirectQueries && tile.head_dim % Simd::kLanes == 0;
  for (int64_t block = begin; block < end; block += kBlockTokens) {
    const BlockPages pages = PagesOf(tile, block, end);
    const KeyPages<kType> key_pages = {pages};
    const ValuePages<kType> value_pages = {pages, tile.head_dim};
    const Panel key_panel = {state.k_panel, kBlockTokens};
    const Panel value_panel = {state.v_panel, PaddedDim(tile.head_dim)};
    const uint64_t chosen =
        tile.masks == nullptr ? 0 : ChosenOf(tile, block, end);
    if (!direct) {
      FillKeyPanel<kType>(pages, tile.head_dim, state.k_panel);
      FillValuePanel<kType>(pages, tile.head_dim, PaddedDim(tile.head_dim),
                            state.v_panel);
    }
    for (int64_t q = 0; q < queries; q += kGroupQueries) {
      if (!direct) PrefetchSlice(pages, 2 * pages.value_offset, q, queries);
      const Group group = MakeGroup(tile, q, block);
      if (group.most == 0) continue;
      if (direct) {
        AttendGroup(tile, state, group, chosen, key_pages, value_pages);
      } else {
        AttendGroup(tile, state, group, chosen, key_panel, value_panel);
      }
    }
  }
}

template <DType kType>
void AttendTile(const AttentionTile& tile, float* scratch, float* result) {
  TileState state = CutScratch(tile, scratch);
  const int64_t queries = tile.num_queries();
  const int64_t stride = state.state_floats;
  if (tile.is_part) {
    state.partial = result;
    ResetStates(state.partial, queries, stride);
    AttendPartition<kType>(tile, state, tile.partition);
    return;
  }
  const int64_t num_partitions = tile.num_partitions();
  for (int64_t partition = 0; partition < num_partitions; ++partition) {
    ResetStates(state.partial, queries, stride);
    AttendPartition<kType>(tile, state, partition);
    if (partition == 0) {
      float* first = state.partial;
      state.partial = state.total;
      state.total = first;
      continue;
    }
    // Rows before the partition have nothing in it.
    for (int64_t q = 0; q < queries; ++q) {
      if (tile.position + q / tile.num_heads < partition * kPartitionTokens) {
        continue;
      }
      MergeState(state.partial + q * stride, state.total + q * stride, stride);
    }
  }
  for (int64_t q = 0; q < queries; ++q) {
    FinishRow(state.total + q * stride, tile.head_dim,
              result + q * tile.head_dim);
  }
}

void Attend(const AttentionTile& tile, float* scratch, float* result) {
  switch (tile.dtype) {
    case DType::kF32:
      return AttendTile<DType::kF32>(tile, scratch, result);
    case DType::kF16:
      return AttendTile<DType::kF16>(tile, scratch, result);
    case DType::kBF16:
      return AttendTile<DType::kBF16>(tile, scratch, result);
  }
}

void Merge(const AttentionTile& tile, const float* partials, float* scratch,
           float* result) {
  const int64_t queries = tile.num_queries();
  const int64_t stride = StateFloats(tile.head_dim);
  for (int64_t q = 0; q < queries; ++q) {
    for (int64_t i = 0; i < stride; ++i) scratch[i] = partials[q * stride + i];
    // Partitions that the row sees.
    const int64_t position = tile.position + q / tile.num_heads;
    const int64_t count = position / kPartitionTokens + 1;
    for (int64_t i = 1; i < count; ++i) {
      MergeState(partials + (i * queries + q) * stride, scratch, stride);
    }
    FinishRow(scratch, tile.head_dim, result + q * tile.head_dim);
  }
}

constexpr AttentionKernels kAttentionKernels = {ScratchFloats, Attend, Merge};

}  // namespace
}  // namespace sentencekv
