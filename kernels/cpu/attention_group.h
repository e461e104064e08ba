// A few queries of a tile against one block of keys and values: scores, softmax
// and output sums. Included only through attention_kernel.h.
#pragma once

#include <cstdint>

#include "kernels/cpu/attention_product.h"
#include "kernels/cpu/attention_sources.h"
#include "kernels/cpu/attention_state.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/simd.h"

namespace sentencekv {
namespace {

// A run of up to kGroupQueries queries against one block.
struct Group {
  int64_t begin;                   // first query
  int rows;                        // queries
  int64_t visible[kGroupQueries];  // keys of the block that each may see
  int64_t most;                    // the greatest of them
  int64_t fewest;                  // the least of them
};

Group MakeGroup(const AttentionTile& tile, int64_t begin, int64_t block_begin) {
  Group group;
  group.begin = begin;
  const int64_t left = tile.num_queries() - begin;
  group.rows = static_cast<int>(left < kGroupQueries ? left : kGroupQueries);
  for (int i = 0; i < group.rows; ++i) {
    const int64_t position = tile.position + (begin + i) / tile.num_heads;
    int64_t visible = position + 1 - block_begin;
    if (visible < 0) visible = 0;
    group.visible[i] = visible < kBlockTokens ? visible : kBlockTokens;
  }
  // Positions rise with the query.
  group.fewest = group.visible[0];
  group.most = group.visible[group.rows - 1];
  return group;
}

// Bit t: token t of the block at `begin` is chosen.
inline uint64_t ChosenOf(const AttentionTile& tile, int64_t begin,
                         int64_t end) {
  uint64_t chosen = 0;
  const int64_t first = begin / kPageTokens;
  const int64_t last = (end - 1) / kPageTokens;
  for (int64_t i = 0; i < kBlockPages && first + i <= last; ++i) {
    chosen |= static_cast<uint64_t>(tile.masks[first + i]) << (i * kPageTokens);
  }
  return chosen;
}

// Scores of tokens that are not chosen become minus infinity.
inline void HideScores(float* scores, int rows, int64_t visible,
                       uint64_t chosen) {
  for (int64_t t = 0; t < visible; ++t) {
    if ((chosen >> t & 1) != 0) continue;
    for (int i = 0; i < rows; ++i)
      scores[i * kBlockTokens + t] = kMinusInfinity;
  }
}

// Output sums of a group over the chosen tokens of a block, run by run: a token
// that is not chosen is never touched.
template <typename ValueSource>
void AddChosenValues(int rows, Product product, int64_t vectors,
                     uint64_t chosen, const ValueSource& values) {
  float ones[kGroupQueries];
  for (float& one : ones) one = 1.0f;
  while (chosen != 0) {
    product.begin = __builtin_ctzll(chosen);
    const uint64_t from_begin = ~(chosen >> product.begin);
    const int64_t length = from_begin == 0 ? 64 : __builtin_ctzll(from_begin);
    product.end = product.begin + length;
    MultiplyStrip(rows, product, vectors, values);
    product.factors = ones;
    chosen = product.end == 64 ? 0 : chosen >> product.end << product.end;
  }
}

// Scores, softmax and output sums of a group against a block. `chosen` counts
// only where the tile has masks.
template <typename KeySource, typename ValueSource>
void AttendGroup(const AttentionTile& tile, const TileState& state,
                 const Group& group, uint64_t chosen, const KeySource& keys,
                 const ValueSource& values) {
  const int64_t stride = state.state_floats;
  const int64_t vectors = (group.most + Simd::kLanes - 1) / Simd::kLanes;
  MultiplyStrip(group.rows,
                {.a = tile.q + group.begin * tile.head_dim,
                 .a_stride = tile.head_dim,
                 .begin = 0,
                 .end = tile.head_dim,
                 .c = state.scores,
                 .c_stride = kBlockTokens},
                vectors, keys);
  const bool has_masks = tile.masks != nullptr;
  if (has_masks) HideScores(state.scores, group.rows, group.most, chosen);
  float factors[kGroupQueries];
  float* states = state.partial + group.begin * stride;
  for (int i = 0; i < group.rows; ++i) {
    factors[i] = 1.0f;
    if (group.visible[i] == 0) continue;
    float* query_state = states + i * stride;
    factors[i] = UpdateSoftmax(state.scores + i * kBlockTokens,
                               group.visible[i], MaximumOf(query_state, stride),
                               SumOf(query_state, stride));
  }
  Product product = {.a = state.scores,
                     .a_stride = kBlockTokens,
                     .begin = 0,
                     .end = group.fewest,
                     .c = states,
                     .c_stride = stride,
                     .factors = factors};
  const int64_t dim_vectors = PaddedDim(tile.head_dim) / Simd::kLanes;
  if (has_masks) {
    AddChosenValues(group.rows, product, dim_vectors, chosen, values);
    return;
  }
  MultiplyStrip(group.rows, product, dim_vectors, values);
  // At the diagonal later rows of the group see a few tokens more.
  for (int i = 0; i < group.rows; ++i) {
    if (group.visible[i] == group.fewest) continue;
    const float one = 1.0f;
    product.a = state.scores + i * kBlockTokens;
    product.c = states + i * stride;
    product.begin = group.fewest;
    product.end = group.visible[i];
    product.factors = &one;
    MultiplyStrip(1, product, dim_vectors, values);
  }
}

}  // namespace
}  // namespace sentencekv
