#include "engine/llama_model.h"

#include <cmath>
#include <utility>

#include "fmt/format.h"
#include "kernels/check.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

constexpr int64_t kMaxTokensPerStep = 1 << 20;
constexpr int64_t kMaxLogitsPerStep = 1 << 16;

absl::Status CheckLimit(const char* name, int64_t value, int64_t maximum) {
  if (value >= 1 && value <= maximum) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{}: must be in 1..{}, got {}", name, maximum, value));
}

}  // namespace

LlamaModel::LlamaModel(const LlamaConfig& config, LlamaWeights weights,
                       ModelInfo info, const Limits& limits, Backend& backend)
    : config_(config),
      weights_(std::move(weights)),
      info_(std::move(info)),
      limits_(limits),
      backend_(backend) {
  info_.architecture = "llama";
  info_.weight_bytes = weights_.size_bytes;
  info_.num_layers = config.num_layers;
  info_.num_heads = config.num_heads;
  info_.num_kv_heads = config.num_kv_heads;
  info_.head_dim = config.head_dim;
  info_.vocab_size = config.vocab_size;
  info_.context_length = config.context_length;
}

absl::StatusOr<std::unique_ptr<LlamaModel>> LlamaModel::Create(
    const LlamaConfig& config, LlamaWeights weights, ModelInfo info,
    const Limits& limits, Backend& backend) {
  SKV_RETURN_IF_ERROR(CheckLimit(
      "max_tokens_per_step", limits.max_tokens_per_step, kMaxTokensPerStep));
  SKV_RETURN_IF_ERROR(CheckLimit(
      "max_logits_per_step", limits.max_logits_per_step, kMaxLogitsPerStep));
  std::unique_ptr<LlamaModel> model(new LlamaModel(
      config, std::move(weights), std::move(info), limits, backend));
  SKV_RETURN_IF_ERROR(model->AllocateActivations());
  return model;
}

absl::Status LlamaModel::AllocateActivations() {
  struct Part {
    Buffer* buffer;
    int64_t rows;
    int64_t cols;
  };
  const LlamaConfig& c = config_;
  const int64_t tokens = limits_.max_tokens_per_step;
  const int64_t logits = limits_.max_logits_per_step;
  const int64_t q_cols = c.num_heads * c.head_dim;
  const int64_t kv_cols = c.num_kv_heads * c.head_dim;
  const Part parts[] = {
      {&act_.hidden, tokens, c.width},
      {&act_.normed, tokens, c.width},
      {&act_.qkv, tokens, q_cols + 2 * kv_cols},
      {&act_.attended, tokens, q_cols},
      {&act_.gate_up, tokens, 2 * c.ffn_width},
      {&act_.activated, tokens, c.ffn_width},
      {&act_.cos_sin, tokens, c.rope.rotary_dims},
      {&act_.logits_hidden, logits, c.width},
      {&act_.logits, logits, c.vocab_size},
  };
  for (const Part& part : parts) {
    SKV_ASSIGN_OR_RETURN(
        *part.buffer,
        backend_.Allocate(
            static_cast<size_t>(part.rows * part.cols) * sizeof(float),
            MemoryUse::kActivations));
  }
  host_logits_.resize(static_cast<size_t>(logits * c.vocab_size));
  return absl::OkStatus();
}

absl::Status LlamaModel::Forward(std::span<const ForwardSequence> batch,
                                 KvMemory& memory,
                                 std::span<const float>* logits) {
  *logits = {};
  SKV_RETURN_IF_ERROR(CheckBatch(batch, memory.pool()));
  PlanStep(batch);
  if (step_.tokens.empty()) return absl::OkStatus();

  for (const PolicyGroup& group : step_.groups) {
    group.policy->OnAppend(
        std::span(step_.sequences).subspan(group.begin, group.count));
  }
  SKV_RETURN_IF_ERROR(PrepareStep(memory));
  SKV_RETURN_IF_ERROR(step_.is_prepared ? RunPreparedStep(memory)
                                        : IssueStep(memory));
  SKV_RETURN_IF_ERROR(ReadLogits(logits));
  for (const PolicyGroup& group : step_.groups) {
    SKV_RETURN_IF_ERROR(group.policy->OnComputed(memory));
  }

  // Only now: an error above must leave every sequence as it was.
  for (const ForwardSequence& sequence : batch) {
    sequence.sequence->num_tokens +=
        static_cast<int64_t>(sequence.tokens.size());
  }
  return absl::OkStatus();
}

absl::Status LlamaModel::IssueStep(KvMemory& memory) {
  SKV_RETURN_IF_ERROR(backend_.Embed({.table = &weights_.embedding,
                                      .tokens = step_.tokens.data(),
                                      .out = act_.hidden.as<float>(),
                                      .num_tokens = step_.num_tokens()}));
  SKV_RETURN_IF_ERROR(backend_.RopeTable(
      {.positions = step_.positions.data(),
       .inverse_frequency = weights_.inverse_frequency.as<float>(),
       .cos_sin = act_.cos_sin.as<float>(),
       .num_tokens = step_.num_tokens(),
       .half_dims = config_.rope.rotary_dims / 2,
       .magnitude = static_cast<float>(config_.rope.scaling.magnitude)}));
  for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
    SKV_RETURN_IF_ERROR(RunLayer(layer, memory));
  }
  return ComputeLogits();
}

// h += attention(norm(h)) Wo;  h += (silu(n Wgate) * (n Wup)) Wdown, n =
// norm(h)
absl::Status LlamaModel::RunLayer(int64_t layer, KvMemory& memory) {
  const LlamaLayerWeights& weights =
      weights_.layers[static_cast<size_t>(layer)];
  const int64_t num_tokens = step_.num_tokens();

  SKV_RETURN_IF_ERROR(
      Norm(act_.hidden, weights.attention_norm, act_.normed, num_tokens));
  SKV_RETURN_IF_ERROR(Project(act_.normed, weights.qkv, act_.qkv));
  SKV_RETURN_IF_ERROR(TurnAndStore(layer, memory));
  SKV_RETURN_IF_ERROR(Attend(layer, memory));
  SKV_RETURN_IF_ERROR(
      AddProjection(act_.attended, weights.attention_output, act_.hidden));

  SKV_RETURN_IF_ERROR(
      Norm(act_.hidden, weights.ffn_norm, act_.normed, num_tokens));
  SKV_RETURN_IF_ERROR(Project(act_.normed, weights.gate_up, act_.gate_up));
  SKV_RETURN_IF_ERROR(Activate());
  return AddProjection(act_.activated, weights.down, act_.hidden);
}

absl::Status LlamaModel::Attend(int64_t layer, KvMemory& memory) {
  for (const PolicyGroup& group : step_.groups) {
    AttendInput input;
    input.layer = layer;
    input.qkv = act_.qkv.as<float>();
    input.out = act_.attended.as<float>();
    input.num_heads = config_.num_heads;
    input.scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim));
    input.sequences =
        std::span(step_.sequences).subspan(group.begin, group.count);
    input.kv_sequences =
        std::span(step_.kv_sequences).subspan(group.begin, group.count);
    SKV_RETURN_IF_ERROR(group.policy->Attend(memory, input));
  }
  return absl::OkStatus();
}

// Only rows whose logits are wanted pass the last norm and the output matrix,
// the largest of all.
absl::Status LlamaModel::ComputeLogits() {
  const int64_t num_logits = step_.num_logits();
  if (num_logits == 0) return absl::OkStatus();
  SKV_RETURN_IF_ERROR(
      backend_.GatherRows({.x = act_.hidden.as<float>(),
                           .rows = step_.logits_rows.data(),
                           .out = act_.logits_hidden.as<float>(),
                           .num_rows = num_logits,
                           .width = config_.width}));
  SKV_RETURN_IF_ERROR(Norm(act_.logits_hidden, weights_.output_norm,
                           act_.logits_hidden, num_logits));
  return backend_.MatMul(
      {.weight = config_.tied_output ? &weights_.embedding : &weights_.output,
       .x = act_.logits_hidden.as<float>(),
       .out = act_.logits.as<float>(),
       .num_rows = num_logits});
}

absl::Status LlamaModel::ReadLogits(std::span<const float>* logits) {
  const int64_t num_logits = step_.num_logits();
  if (num_logits == 0) return backend_.Synchronize();
  const auto count = static_cast<size_t>(num_logits * config_.vocab_size);
  SKV_RETURN_IF_ERROR(backend_.CopyToHost(
      host_logits_.data(), act_.logits.data(), count * sizeof(float)));
  *logits = std::span(host_logits_).first(count);
  return absl::OkStatus();
}

absl::Status LlamaModel::Norm(const Buffer& x, const Buffer& weight,
                              const Buffer& out, int64_t num_rows) {
  return backend_.RmsNorm({.x = x.as<float>(),
                           .weight = weight.as<float>(),
                           .out = out.as<float>(),
                           .num_rows = num_rows,
                           .width = config_.width,
                           .epsilon = config_.norm_epsilon});
}

absl::Status LlamaModel::Project(const Buffer& x, const LinearWeights& weights,
                                 const Buffer& out) {
  return backend_.MatMul({.weight = &weights.matrix,
                          .x = x.as<float>(),
                          .bias = weights.bias.as<float>(),
                          .out = out.as<float>(),
                          .num_rows = step_.num_tokens()});
}

absl::Status LlamaModel::AddProjection(const Buffer& x,
                                       const LinearWeights& weights,
                                       const Buffer& out) {
  return backend_.MatMul({.weight = &weights.matrix,
                          .x = x.as<float>(),
                          .bias = weights.bias.as<float>(),
                          .out = out.as<float>(),
                          .num_rows = step_.num_tokens(),
                          .accumulate = true});
}

absl::Status LlamaModel::TurnAndStore(int64_t layer, KvMemory& memory) {
  std::vector<KvSequence>& sequences = step_.kv_sequences;
  const auto count = std::ssize(sequences);
  if (step_.is_prepared) {
    for (size_t i = 0; i < sequences.size(); ++i) {
      sequences[i].pages =
          step_.written[static_cast<size_t>(layer * count) + i];
    }
    return TurnAndStoreRows(layer, memory, 0, count);
  }
  const auto bring = [&](int64_t i) -> absl::Status {
    KvSequence& rows = sequences[static_cast<size_t>(i)];
    SKV_ASSIGN_OR_RETURN(
        rows.pages, memory.BringToWrite(layer, SequenceOf(i), rows.position,
                                        rows.position + rows.num_rows));
    return absl::OkStatus();
  };
  const auto turn_and_store = [&](int64_t begin, int64_t end) -> absl::Status {
    SKV_RETURN_IF_ERROR(TurnAndStoreRows(layer, memory, begin, end));
    for (int64_t i = begin; i < end; ++i) {
      const KvSequence& rows = sequences[static_cast<size_t>(i)];
      SKV_RETURN_IF_ERROR(memory.Save(layer, SequenceOf(i), rows.position,
                                      rows.position + rows.num_rows));
    }
    return absl::OkStatus();
  };
  return RunInPieces(memory, count, bring, turn_and_store);
}

absl::Status LlamaModel::TurnAndStoreRows(int64_t layer, KvMemory& memory,
                                          int64_t begin, int64_t end) {
  return backend_.RopeStoreKv({.qkv = act_.qkv.as<float>(),
                               .cos_sin = act_.cos_sin.as<float>(),
                               .kv = memory.view(layer),
                               .sequences = step_.kv_sequences.data() + begin,
                               .num_sequences = end - begin,
                               .num_heads = config_.num_heads,
                               .rotary_dims = config_.rope.rotary_dims,
                               .layout = config_.rope_layout});
}

absl::Status LlamaModel::Activate() {
  return backend_.SwiGlu({.gate_up = act_.gate_up.as<float>(),
                          .out = act_.activated.as<float>(),
                          .num_rows = step_.num_tokens(),
                          .width = config_.ffn_width});
}

}  // namespace sentencekv
