// The running softmax of the queries of a tile, and the memory it works in.
// Included only through attention_kernel.h.
#pragma once

#include <cstdint>

#include "kernels/cpu/attention_product.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/simd.h"

namespace sentencekv {
namespace {

constexpr float kMinusInfinity = -__builtin_inff();

constexpr int64_t PaddedDim(int64_t head_dim) {
  return (head_dim + Simd::kLanes - 1) / Simd::kLanes * Simd::kLanes;
}

// Working memory of one tile, cut out of its scratch.
struct TileState {
  float* partial;  // [queries, state] of the current partition
  float* total;    // [queries, state] of the partitions before it
  float* scores;   // [kGroupQueries, kBlockTokens]; then probabilities
  float* k_panel;  // [D, kBlockTokens]
  float* v_panel;  // [kBlockTokens, PaddedDim(D)]
  int64_t state_floats;
};

inline float& MaximumOf(float* state, int64_t state_floats) {
  return state[state_floats - 16];
}
inline float& SumOf(float* state, int64_t state_floats) {
  return state[state_floats - 15];
}

int64_t ScratchFloats(int64_t num_queries, int64_t head_dim) {
  return num_queries * 2 * StateFloats(head_dim) +
         kGroupQueries * kBlockTokens +
         kBlockTokens * (head_dim + PaddedDim(head_dim)) + 4 * 16;
}

TileState CutScratch(const AttentionTile& tile, float* scratch) {
  const int64_t queries = tile.num_queries();
  const int64_t dim = tile.head_dim;
  // Every part starts on a cache line.
  const auto take = [&scratch](int64_t floats) {
    float* part = scratch;
    scratch += (floats + 15) / 16 * 16;
    return part;
  };
  TileState state;
  state.state_floats = StateFloats(dim);
  state.scores = take(kGroupQueries * kBlockTokens);
  state.k_panel = take(kBlockTokens * dim);
  state.v_panel = take(kBlockTokens * PaddedDim(dim));
  state.partial = take(queries * state.state_floats);
  state.total = take(queries * state.state_floats);
  return state;
}

void ResetStates(float* states, int64_t queries, int64_t state_floats) {
  for (int64_t i = 0; i < queries; ++i, states += state_floats) {
    for (int64_t j = 0; j < state_floats; ++j) states[j] = 0;
    MaximumOf(states, state_floats) = kMinusInfinity;
  }
}

inline float Exp2OfOne(float x) {
  return Simd::First(Simd::Exp2NonPositive(Simd::Set(x)));
}

// One softmax step of a query over the first `visible` scores of a block, which
// become probabilities. Returns the factor of the sums so far.
inline float UpdateSoftmax(float* scores, int64_t visible, float& maximum,
                           float& sum) {
  constexpr int64_t kLanes = Simd::kLanes;
  const int64_t tail = visible % kLanes;
  if (tail != 0) {
    float* last = scores + visible - tail;
    Simd::Store(last, Simd::KeepFirst(Simd::Load(last), tail));
  }
  Simd::Vec highest = Simd::Load(scores);
  for (int64_t i = kLanes; i < visible; i += kLanes) {
    highest = Simd::Max(highest, Simd::Load(scores + i));
  }
  const float block_maximum = Simd::MaxLane(highest);
  const float next = block_maximum > maximum ? block_maximum : maximum;
  const float factor = Exp2OfOne(maximum - next);
  const Simd::Vec subtrahend = Simd::Set(next);
  Simd::Vec total = Simd::Zero();
  for (int64_t i = 0; i < visible; i += kLanes) {
    const Simd::Vec p =
        Simd::Exp2NonPositive(Simd::Sub(Simd::Load(scores + i), subtrahend));
    Simd::Store(scores + i, p);
    total = Simd::Add(total, p);
  }
  maximum = next;
  sum = sum * factor + Simd::Sum(total);
  return factor;
}

// Adds one partition to `total`. Both are states; order matters for the bits.
void MergeState(const float* partial, float* total, int64_t state_floats) {
  const float left = total[state_floats - 16];
  const float right = partial[state_floats - 16];
  const float maximum = right > left ? right : left;
  const float left_factor = Exp2OfOne(left - maximum);
  const float right_factor = Exp2OfOne(right - maximum);
  for (int64_t i = 0; i < state_floats - 16; ++i) {
    total[i] = total[i] * left_factor + partial[i] * right_factor;
  }
  MaximumOf(total, state_floats) = maximum;
  SumOf(total, state_floats) = total[state_floats - 15] * left_factor +
                               partial[state_floats - 15] * right_factor;
}

// The finished row of a query.
void FinishRow(const float* state, int64_t head_dim, float* row) {
  const float inverse = 1.0f / state[StateFloats(head_dim) - 15];
  for (int64_t i = 0; i < head_dim; ++i) row[i] = state[i] * inverse;
}

}  // namespace
}  // namespace sentencekv
