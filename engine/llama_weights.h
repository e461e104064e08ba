// The weights of a Llama network, as its backend keeps them.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/llama_tensors.h"
#include "engine/model_config.h"
#include "kernels/backend.h"
#include "kernels/weight_matrix.h"

namespace sentencekv {

// A matrix and its bias; the bias is empty where the network has none.
struct LinearWeights {
  WeightMatrix matrix;  // [N, K]
  Buffer bias;          // [N] f32
};

struct LlamaLayerWeights {
  Buffer attention_norm;           // [M] f32
  LinearWeights qkv;               // [(H + 2 G) D, M]: rows of q, k, v
  LinearWeights attention_output;  // [M, H D]
  Buffer ffn_norm;                 // [M] f32
  LinearWeights gate_up;           // [2 F, M]: rows of gate, up
  LinearWeights down;              // [M, F]
};

struct LlamaWeights {
  WeightMatrix embedding;                 // [V, M]
  std::vector<LlamaLayerWeights> layers;  // [L]
  Buffer output_norm;                     // [M] f32
  WeightMatrix output;                    // [V, M]; no data when tied
  Buffer inverse_frequency;               // [R/2] f32
  int64_t size_bytes = 0;                 // of all of the above
};

// Packs the tensors onto `backend`; afterwards the file is not needed. Calls
// `on_progress` (which may be null) with 0..1 by bytes packed. kDataLoss for
// rope factors that are not positive; errors of the backend otherwise.
absl::StatusOr<LlamaWeights> PackLlamaWeights(
    const LlamaConfig& config, const LlamaTensors& tensors, Backend& backend,
    const std::function<void(double fraction)>& on_progress);

}  // namespace sentencekv
