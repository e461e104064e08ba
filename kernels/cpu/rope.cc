#include "kernels/cpu/rope.h"

#include <cmath>
#include <cstddef>

#include "kernels/cpu/row_tiles.h"
#include "kernels/kv_layout.h"

namespace sentencekv {
namespace {

// Angles and floats to turn in about 10 microseconds: more than waking a thread
// costs.
constexpr int64_t kTableAngles = 256;
constexpr int64_t kTurnFloats = 16 * 1024;

}  // namespace

void RunRopeTable(WorkerPool& pool, const RopeTableParams& params) {
  const int64_t half = params.half_dims;
  if (half == 0) return;
  ForRowTiles(
      pool, params.num_tokens, kTableAngles / half,
      [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
          float* row = params.cos_sin + t * half * 2;
          for (int64_t i = 0; i < half; ++i) {
            // In double: a position of millions leaves an f32 angle no
            // fraction to speak of.
            const double angle =
                static_cast<double>(params.positions[t]) *
                static_cast<double>(params.inverse_frequency[i]);
            const auto magnitude = static_cast<double>(params.magnitude);
            row[2 * i] = static_cast<float>(std::cos(angle) * magnitude);
            row[2 * i + 1] = static_cast<float>(std::sin(angle) * magnitude);
          }
        }
      });
}

void RunRopeStoreKv(WorkerPool& pool, const RopeStoreKvParams& params,
                    RopeTokenKernel kernel) {
  const KvLayout& layout = params.kv.layout;
  const int64_t row_floats =
      (params.num_heads + 2 * layout.num_kv_heads) * layout.head_dim;
  RopeToken common;
  common.num_heads = params.num_heads;
  common.num_kv_heads = layout.num_kv_heads;
  common.head_dim = layout.head_dim;
  common.head_bytes = layout.head_bytes();
  common.rotary_dims = params.rotary_dims;
  common.layout = params.layout;
  common.dtype = layout.dtype;
  for (int64_t s = 0; s < params.num_sequences; ++s) {
    const KvSequence& sequence = params.sequences[s];
    const auto turn = [&](int64_t begin, int64_t end) {
      RopeToken token = common;
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = sequence.row_begin + i;
        const int64_t position = sequence.position + i;
        token.row = params.qkv + row * row_floats;
        token.cos_sin = params.cos_sin + row * params.rotary_dims;
        token.page = params.kv.head(sequence.pages[position / kPageTokens], 0);
        token.slot = position % kPageTokens;
        kernel(token);
      }
    };
    ForRowTiles(pool, sequence.num_rows, kTurnFloats / row_floats, turn);
  }
}

}  // namespace sentencekv
