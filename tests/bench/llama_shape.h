// The shape of Llama-3.1-8B, bf16; dimension letters of kernels/op_params.h.
#pragma once

#include <cstdint>

#include "kernels/kv_layout.h"

namespace sentencekv {

struct LlamaShape {
  static constexpr int64_t kLayers = 32;       // L
  static constexpr int64_t kHeads = 32;        // H
  static constexpr int64_t kKvHeads = 8;       // G
  static constexpr int64_t kHeadDim = 128;     // D
  static constexpr int64_t kWidth = 4096;      // M
  static constexpr int64_t kFfnWidth = 14336;  // F
  static constexpr int64_t kVocabulary = 128256;
  static constexpr int64_t kGroup = kHeads / kKvHeads;
  static constexpr int64_t kQkvWidth = (kHeads + 2 * kKvHeads) * kHeadDim;
  // Of all matrices: the embedding and the output's are two.
  static constexpr int64_t kWeightBytes =
      2 * kWidth *
      (2 * kVocabulary +
       kLayers * (kQkvWidth + kHeads * kHeadDim + 3 * kFfnWidth));
};

// K and V of pages of one layer.
inline KvLayout LayerPages(int64_t num_pages) {
  return {.num_layers = 1,
          .num_pages = num_pages,
          .num_kv_heads = LlamaShape::kKvHeads,
          .head_dim = LlamaShape::kHeadDim,
          .dtype = DType::kBF16};
}

}  // namespace sentencekv
