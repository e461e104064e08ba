// A model without arithmetic: its logits are a function of the token history.
//
// The history is not remembered: Forward writes each token id into the token's
// slot of its page, and reads the whole history back through the page table.
// A wrong page table, a page given away too early or a chunk at the wrong
// position therefore changes the logits, as it would with a real model.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "cache/page_pool.h"
#include "engine/model.h"

namespace sentencekv {

struct ScriptedModelOptions {
  int64_t vocab_size = 260;  // ByteTokenizer's
  int64_t context_length = 512;
  int64_t max_tokens_per_step = 256;
  int64_t max_logits_per_step = 64;
};

// Scripts are set before the engine starts, Forward runs on its thread;
// num_forwards may be read by any.
class ScriptedModel final : public Model {
 public:
  // Writes the logits [V] that follow `history`.
  using LogitsFunction = std::function<void(std::span<const int32_t> history,
                                            std::span<float> logits)>;

  explicit ScriptedModel(const ScriptedModelOptions& options = {});

  // A pool that this model can use: small pages of one layer.
  static KvLayout Layout(int64_t num_pages);
  // Logits in -4..4, pseudo-random in the history and `seed`: what a model
  // starts with (seed 1).
  static LogitsFunction HashLogits(uint64_t seed);
  // Says the bytes of `text` after a prompt of `prompt_tokens`, then `last_id`.
  static LogitsFunction Recite(int64_t prompt_tokens, std::string text,
                               int32_t last_id);

  void set_logits(LogitsFunction logits) { logits_function_ = logits; }
  // Forward number `index` (from 0) writes rubbish to the new tokens' slots
  // and returns `status`.
  void FailForward(int64_t index, absl::Status status);
  // Called at the start of each Forward: to look at a batch, take fake time,
  // cancel.
  void set_on_forward(
      std::function<void(std::span<const ForwardSequence>)> on_forward) {
    on_forward_ = std::move(on_forward);
  }
  int64_t num_forwards() const { return num_forwards_; }

  const ModelInfo& info() const override { return info_; }
  int64_t max_tokens_per_step() const override {
    return options_.max_tokens_per_step;
  }
  int64_t max_logits_per_step() const override {
    return options_.max_logits_per_step;
  }
  absl::Status Forward(std::span<const ForwardSequence> batch, KvMemory& memory,
                       std::span<const float>* logits) override;

 private:
  void CheckContract(std::span<const ForwardSequence> batch) const;
  void RunSequence(const ForwardSequence& entry, const PagePool& pool);

  const ScriptedModelOptions options_;
  ModelInfo info_;
  LogitsFunction logits_function_;
  std::function<void(std::span<const ForwardSequence>)> on_forward_;
  std::map<int64_t, absl::Status> failures_;  // by number of Forward
  std::atomic<int64_t> num_forwards_ = 0;
  std::vector<float> logits_;     // [rows, V]
  std::vector<int32_t> history_;  // of the sequence at hand
};

}  // namespace sentencekv
