// The Llama network (https://arxiv.org/abs/2302.13971 and its successors) as a
// Model: the order of operations, and the memory they work in. All arithmetic
// is the backend's.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/llama_weights.h"
#include "engine/model.h"
#include "engine/model_config.h"
#include "kernels/backend.h"

namespace sentencekv {

// Used by the engine thread alone. All memory of a step is allocated by
// Create.
class LlamaModel final : public Model {
 public:
  struct Limits {
    int64_t max_tokens_per_step = 256;
    int64_t max_logits_per_step = 64;
  };

  // `info` carries what only the file knows (name, quantization, number of
  // parameters); the rest is filled in here. `backend` must outlive the model.
  // kInvalidArgument for limits that are not positive.
  static absl::StatusOr<std::unique_ptr<LlamaModel>> Create(
      const LlamaConfig& config, LlamaWeights weights, ModelInfo info,
      const Limits& limits, Backend& backend);

  const ModelInfo& info() const override { return info_; }
  int64_t max_tokens_per_step() const override {
    return limits_.max_tokens_per_step;
  }
  int64_t max_logits_per_step() const override {
    return limits_.max_logits_per_step;
  }

  // kInvalidArgument when the batch breaks the contract of Model::Forward.
  absl::Status Forward(std::span<const ForwardSequence> batch, KvMemory& memory,
                       std::span<const float>* logits) override;

 private:
  // Device memory of one step, for the most tokens and logits that it may
  // have; T and n are the step's.
  struct Activations {
    Buffer hidden;         // [T, M] the residual stream
    Buffer normed;         // [T, M]
    Buffer qkv;            // [T, (H + 2 G) D]
    Buffer attended;       // [T, H D]
    Buffer gate_up;        // [T, 2 F]
    Buffer activated;      // [T, F]
    Buffer cos_sin;        // [T, R/2, 2]
    Buffer logits_hidden;  // [n, M] rows whose logits are wanted
    Buffer logits;         // [n, V]
  };

  // The sequences of a step that share a policy: a run of Step::sequences.
  struct PolicyGroup {
    KvPolicy* policy = nullptr;
    size_t begin = 0;
    size_t count = 0;
  };

  // A step as the operations want it; the vectors are reused.
  struct Step {
    std::vector<int32_t> tokens;           // [T]
    std::vector<int32_t> positions;        // [T]
    std::vector<int32_t> logits_rows;      // [n] rows whose logits are wanted
    std::vector<StepSequence> sequences;   // [B], grouped by policy
    std::vector<KvSequence> kv_sequences;  // [B], the same
    std::vector<PolicyGroup> groups;
    // As KvPolicy::PrepareStep says.
    bool is_prepared = false;
    std::vector<const int32_t*> written;  // [L][B]

    int64_t num_tokens() const { return static_cast<int64_t>(tokens.size()); }
    int64_t num_logits() const {
      return static_cast<int64_t>(logits_rows.size());
    }
  };

  LlamaModel(const LlamaConfig& config, LlamaWeights weights, ModelInfo info,
             const Limits& limits, Backend& backend);

  absl::Status AllocateActivations();
  absl::Status CheckBatch(std::span<const ForwardSequence> batch,
                          const PagePool& pool) const;
  void PlanStep(std::span<const ForwardSequence> batch);
  void AddSequence(const ForwardSequence& sequence, int64_t row_begin);
  // Lets policies prepare the step.
  absl::Status PrepareStep(KvMemory& memory);
  // All operations of the step.
  absl::Status IssueStep(KvMemory& memory);
  // The same, and saves what a step that is prepared has written.
  absl::Status RunPreparedStep(KvMemory& memory);
  absl::Status RunLayer(int64_t layer, KvMemory& memory);
  absl::Status Attend(int64_t layer, KvMemory& memory);
  absl::Status ComputeLogits();
  absl::Status ReadLogits(std::span<const float>* logits);

  // Operations on whole activations, named as the equations name them.
  absl::Status Norm(const Buffer& x, const Buffer& weight, const Buffer& out,
                    int64_t num_rows);
  absl::Status Project(const Buffer& x, const LinearWeights& weights,
                       const Buffer& out);
  absl::Status AddProjection(const Buffer& x, const LinearWeights& weights,
                             const Buffer& out);
  absl::Status TurnAndStore(int64_t layer, KvMemory& memory);
  // Of sequences begin..end-1, whose pages have been brought.
  absl::Status TurnAndStoreRows(int64_t layer, KvMemory& memory, int64_t begin,
                                int64_t end);
  absl::Status Activate();

  // Of the step, in the order of its kv_sequences.
  CachedSequence& SequenceOf(int64_t index) {
    return *step_.sequences[static_cast<size_t>(index)].sequence;
  }

  const LlamaConfig config_;
  const LlamaWeights weights_;
  ModelInfo info_;
  const Limits limits_;
  Backend& backend_;
  Activations act_;
  Step step_;
  std::vector<float> host_logits_;  // [max_logits_per_step, V]
};

}  // namespace sentencekv
