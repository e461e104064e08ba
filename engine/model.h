// The model seam: tokens in, logits out. It knows layers and pages, and
// nothing of requests. Test double: ScriptedModel
// (tests/support/scripted_model.h).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cache/kv_memory.h"
#include "cache/kv_policy.h"

namespace sentencekv {

// What the rest of the engine needs to know of a model.
struct ModelInfo {
  std::string name;          // from the file, e.g. "SmolLM2 135M"
  std::string architecture;  // "llama"
  std::string quantization;  // as stored, e.g. "Q4_1"
  int64_t num_parameters = 0;
  int64_t weight_bytes = 0;    // packed, in memory
  int64_t num_layers = 0;      // L
  int64_t num_heads = 0;       // H
  int64_t num_kv_heads = 0;    // G
  int64_t head_dim = 0;        // D
  int64_t vocab_size = 0;      // V
  int64_t context_length = 0;  // longest sequence, tokens
};

// One sequence's share of a forward pass.
struct ForwardSequence {
  CachedSequence* sequence = nullptr;  // holds pages for all of `tokens`
  KvPolicy* policy = nullptr;
  std::span<const int32_t>
      tokens;  // at positions sequence->num_tokens ...; at least one
  int64_t num_logits =
      0;  // logits of the last n tokens are wanted; 0..tokens.size()
};

class Model {
 public:
  virtual ~Model() = default;

  virtual const ModelInfo& info() const = 0;
  // Most tokens, and most rows of logits, that one Forward may be given.
  virtual int64_t max_tokens_per_step() const = 0;
  virtual int64_t max_logits_per_step() const = 0;

  // Computes one step: writes K and V of every token to its page and adds the
  // tokens to num_tokens of each sequence. *logits becomes a view of
  // [sum of num_logits, V] f32 in host memory, in the order of `batch`, valid
  // until the next call. On an error no sequence's num_tokens has changed.
  // REQUIRES: tokens in 0..V-1, totals within the limits above.
  virtual absl::Status Forward(std::span<const ForwardSequence> batch,
                               KvMemory& memory,
                               std::span<const float>* logits) = 0;
};

}  // namespace sentencekv
