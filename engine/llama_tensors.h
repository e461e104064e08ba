// Which tensors of a checkpoint are which part of a Llama network.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint_tensor.h"
#include "engine/model_config.h"

namespace sentencekv {

// How the tensors of a checkpoint are named.
enum class TensorNaming : uint8_t {
  kGguf,         // "blk.0.attn_q.weight"
  kHuggingFace,  // "model.layers.0.self_attn.q_proj.weight"
};

// Tensors of one layer; shapes as checked against the configuration. Null:
// the configuration has no such bias.
struct LlamaLayerTensors {
  const CheckpointTensor* attention_norm = nullptr;         // [M]
  const CheckpointTensor* q = nullptr;                      // [H D, M]
  const CheckpointTensor* k = nullptr;                      // [G D, M]
  const CheckpointTensor* v = nullptr;                      // [G D, M]
  const CheckpointTensor* attention_output = nullptr;       // [M, H D]
  const CheckpointTensor* ffn_norm = nullptr;               // [M]
  const CheckpointTensor* gate = nullptr;                   // [F, M]
  const CheckpointTensor* up = nullptr;                     // [F, M]
  const CheckpointTensor* down = nullptr;                   // [M, F]
  const CheckpointTensor* q_bias = nullptr;                 // [H D]
  const CheckpointTensor* k_bias = nullptr;                 // [G D]
  const CheckpointTensor* v_bias = nullptr;                 // [G D]
  const CheckpointTensor* attention_output_bias = nullptr;  // [M]
  const CheckpointTensor* gate_bias = nullptr;              // [F]
  const CheckpointTensor* up_bias = nullptr;                // [F]
  const CheckpointTensor* down_bias = nullptr;              // [M]
};

struct LlamaTensors {
  const CheckpointTensor* embedding = nullptr;    // [V, M]
  const CheckpointTensor* output_norm = nullptr;  // [M]
  const CheckpointTensor* output = nullptr;       // [V, M]; null when tied
  // Divisors of the rotary frequencies; null when there is none. [R/2]
  const CheckpointTensor* rope_factors = nullptr;
  std::vector<LlamaLayerTensors> layers;  // [L]
  int64_t num_parameters = 0;             // elements of all of the above
};

// Finds and checks every tensor. kDataLoss names one that is missing or has
// another shape than the configuration asks for; kUnimplemented names one that
// the network has no use for: leaving it out would compute something else.
// Borrows from `tensors`.
absl::StatusOr<LlamaTensors> FindLlamaTensors(
    const LlamaConfig& config, TensorNaming naming,
    std::span<const CheckpointTensor> tensors);

// The tensors that `config` asks for: Hugging Face's names, shapes, BF16, no
// data.
std::vector<CheckpointTensor> NeededLlamaTensors(const LlamaConfig& config);

}  // namespace sentencekv
