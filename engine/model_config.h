// What a Llama-family network looks like, read from GGUF metadata or from a
// Hugging Face config.json.
//
// Every field is bounded. A file that asks for other arithmetic than LlamaModel
// does (another architecture, experts, a sliding window, ...) is refused with
// kUnimplemented, which names the field and its value: a model either runs as
// its authors meant or not at all.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/gguf.h"
#include "engine/rope_scaling.h"
#include "kernels/op_params.h"

namespace sentencekv {

// Dimension letters as in kernels/op_params.h.
struct LlamaConfig {
  std::string name;            // for people; may be empty
  int64_t num_layers = 0;      // L
  int64_t width = 0;           // M
  int64_t ffn_width = 0;       // F
  int64_t num_heads = 0;       // H, a multiple of G
  int64_t num_kv_heads = 0;    // G
  int64_t head_dim = 0;        // D, a multiple of 8; H D need not be M
  int64_t vocab_size = 0;      // V
  int64_t context_length = 0;  // tokens
  float norm_epsilon = 0;
  RopeConfig rope;  // rotary_dims: R, even, at most D
  RopeLayout rope_layout = RopeLayout::kInterleaved;
  bool tied_output = false;  // the output matrix is the embedding
  bool qkv_bias = false;
  bool attention_output_bias = false;
  bool ffn_bias = false;
};

// kUnimplemented for what is not supported, kDataLoss for a field that is
// missing, of the wrong kind or absurd; both by name and value.
//
// GGUF: `llama.*` metadata; the vocabulary's size, tied output and biases
// follow from which tensors there are.
absl::StatusOr<LlamaConfig> LlamaConfigFromGguf(const GgufFile& file);
// The text of a config.json.
absl::StatusOr<LlamaConfig> LlamaConfigFromJson(std::string_view json_text);

}  // namespace sentencekv
