// LlamaConfig from GGUF metadata. Keys:
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, section "LLM".
#include <cmath>
#include <iterator>
#include <optional>

#include "engine/gguf_fields.h"
#include "engine/model_config.h"
#include "engine/model_config_checks.h"
#include "fmt/format.h"
#include "kernels/quoted.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

constexpr RequiredSize kSizes[] = {
    {"block_count", &LlamaConfig::num_layers, kMaxModelLayers},
    {"embedding_length", &LlamaConfig::width, kMaxModelWidth},
    {"feed_forward_length", &LlamaConfig::ffn_width, kMaxFfnWidth},
    {"attention.head_count", &LlamaConfig::num_heads, kMaxHeads},
    {"context_length", &LlamaConfig::context_length, kMaxContextLength},
};

// Every llama.* key that this file reads or that changes nothing when it has
// the value its reader checks. Any other key could change the arithmetic.
constexpr std::string_view kKnownKeys[] = {
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "context_length",
    "vocab_size",
    "tensor_data_layout",  // how the file was made
    "use_parallel_residual",
    "expert_count",
    "expert_used_count",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.causal",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",  // for people
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
};

absl::Status CheckKnownKeys(const GgufFile& file, const GgufFields& fields) {
  for (const auto& [name, value] : file.metadata()) {
    if (!name.starts_with(fields.prefix())) continue;
    const std::string_view key = name.substr(fields.prefix().size());
    bool known = false;
    for (const std::string_view candidate : kKnownKeys) {
      known = known || candidate == key;
    }
    if (!known) {
      return absl::UnimplementedError(
          fmt::format("{}: a field that is not supported; got {}", Quoted(name),
                      FieldText(fields.Get(key))));
    }
  }
  return absl::OkStatus();
}

// Fields that are supported at one value only.
absl::Status CheckFixedFields(const GgufFields& fields) {
  SKV_ASSIGN_OR_RETURN(const std::optional<int64_t> experts,
                       fields.Integer("expert_count", 0, INT32_MAX));
  if (experts.value_or(0) != 0) return fields.Unsupported("expert_count", "0");
  SKV_ASSIGN_OR_RETURN(const std::optional<bool> parallel,
                       fields.Boolean("use_parallel_residual"));
  if (parallel.value_or(false)) {
    return fields.Unsupported("use_parallel_residual", "false");
  }
  SKV_ASSIGN_OR_RETURN(const std::optional<bool> causal,
                       fields.Boolean("attention.causal"));
  if (!causal.value_or(true)) {
    return fields.Unsupported("attention.causal", "true");
  }
  SKV_ASSIGN_OR_RETURN(
      const std::optional<double> ext_factor,
      fields.Number("rope.scaling.yarn_ext_factor", -1e6, 1e6));
  // Negative: the reader chooses, which is 1 for yarn.
  if (ext_factor.value_or(1) >= 0 && ext_factor.value_or(1) != 1) {
    return fields.Unsupported("rope.scaling.yarn_ext_factor", "1");
  }
  return absl::OkStatus();
}

absl::Status ReadYarn(const GgufFields& fields, int64_t context_length,
                      RopeScaling* scaling) {
  SKV_ASSIGN_OR_RETURN(const std::optional<int64_t> original,
                       fields.Integer("rope.scaling.original_context_length", 1,
                                      kMaxContextLength));
  scaling->original_context_length = original.value_or(context_length);
  SKV_ASSIGN_OR_RETURN(const std::optional<double> beta_fast,
                       fields.Number("rope.scaling.yarn_beta_fast", 1e-3, 1e6));
  SKV_ASSIGN_OR_RETURN(const std::optional<double> beta_slow,
                       fields.Number("rope.scaling.yarn_beta_slow", 1e-3, 1e6));
  scaling->beta_fast = beta_fast.value_or(32);
  scaling->beta_slow = beta_slow.value_or(1);
  // Two names have been in use; the factor multiplies the recommended one.
  double attention_factor = 1;
  for (const std::string_view key :
       {"rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor"}) {
    SKV_ASSIGN_OR_RETURN(const std::optional<double> factor,
                         fields.Number(key, 1e-3, 1e3));
    if (factor.has_value()) attention_factor = *factor;
  }
  scaling->magnitude = attention_factor * YarnMagnitude(scaling->factor);
  return absl::OkStatus();
}

absl::Status ReadRope(const GgufFields& fields, LlamaConfig* config) {
  RopeConfig& rope = config->rope;
  SKV_ASSIGN_OR_RETURN(
      const std::optional<double> theta,
      fields.Number("rope.freq_base", kMinRopeTheta, kMaxRopeTheta));
  rope.theta = theta.value_or(10000);
  SKV_ASSIGN_OR_RETURN(
      const std::optional<int64_t> rotary_dims,
      fields.Integer("rope.dimension_count", 2, config->head_dim));
  rope.rotary_dims = rotary_dims.value_or(config->head_dim);
  if (rope.rotary_dims % 2 != 0) {
    return fields.Unsupported("rope.dimension_count", "even numbers");
  }

  SKV_ASSIGN_OR_RETURN(const std::optional<std::string> type,
                       fields.Text("rope.scaling.type"));
  // Both names hold the factor; the first is what old files use.
  SKV_ASSIGN_OR_RETURN(const std::optional<double> old_factor,
                       fields.Number("rope.scale_linear", 1, kMaxRopeFactor));
  SKV_ASSIGN_OR_RETURN(const std::optional<double> factor,
                       fields.Number("rope.scaling.factor", 0, kMaxRopeFactor));
  rope.scaling.factor = factor.value_or(old_factor.value_or(1));
  // Some writers put 0 for "not scaled".
  if (rope.scaling.factor == 0) rope.scaling.factor = 1;
  if (rope.scaling.factor < 1) {
    return fields.Unsupported("rope.scaling.factor", "0 and 1 or more");
  }
  const std::string name =
      type.value_or(rope.scaling.factor == 1 ? "none" : "linear");
  if (name == "none") {
    rope.scaling.factor = 1;
  } else if (name == "linear") {
    rope.scaling.type = RopeScalingType::kLinear;
  } else if (name == "yarn") {
    rope.scaling.type = RopeScalingType::kYarn;
    return ReadYarn(fields, config->context_length, &rope.scaling);
  } else {
    return fields.Unsupported("rope.scaling.type", "none, linear and yarn");
  }
  return absl::OkStatus();
}

const CheckpointTensor* FindTensor(const GgufFile& file,
                                   std::string_view name) {
  for (const CheckpointTensor& tensor : file.tensors()) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

// What the tensors that are there tell: V, tied output, biases.
absl::Status ReadFromTensors(const GgufFile& file, const GgufFields& fields,
                             LlamaConfig* config) {
  const CheckpointTensor* embedding = FindTensor(file, "token_embd.weight");
  if (embedding == nullptr) {
    return absl::DataLossError("tensor 'token_embd.weight': missing");
  }
  config->vocab_size = embedding->shape.front();
  if (config->vocab_size > kMaxVocabSize) {
    return absl::DataLossError(
        fmt::format("tensor 'token_embd.weight': at most {} rows, got {}",
                    kMaxVocabSize, config->vocab_size));
  }
  SKV_ASSIGN_OR_RETURN(const std::optional<int64_t> vocab_size,
                       fields.Integer("vocab_size", 1, kMaxVocabSize));
  if (vocab_size.value_or(config->vocab_size) != config->vocab_size) {
    return absl::DataLossError(fmt::format(
        "{}: 'token_embd.weight' has {} rows, got {}",
        fields.FullName("vocab_size"), config->vocab_size, *vocab_size));
  }
  config->tied_output = FindTensor(file, "output.weight") == nullptr;
  config->qkv_bias = FindTensor(file, "blk.0.attn_q.bias") != nullptr;
  config->attention_output_bias =
      FindTensor(file, "blk.0.attn_output.bias") != nullptr;
  config->ffn_bias = FindTensor(file, "blk.0.ffn_gate.bias") != nullptr;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LlamaConfig> LlamaConfigFromGguf(const GgufFile& file) {
  const GgufFields general(file, "general.");
  const GgufFields fields(file, "llama.");
  SKV_ASSIGN_OR_RETURN(const std::optional<std::string> architecture,
                       general.Text("architecture"));
  if (architecture.value_or("") != "llama") {
    return general.Unsupported("architecture", "'llama'");
  }
  LlamaConfig config;
  config.rope_layout = RopeLayout::kInterleaved;
  SKV_ASSIGN_OR_RETURN(const std::optional<std::string> name,
                       general.Text("name"));
  config.name = name.value_or("");
  SKV_RETURN_IF_ERROR(CheckKnownKeys(file, fields));
  SKV_RETURN_IF_ERROR(CheckFixedFields(fields));
  SKV_RETURN_IF_ERROR(ReadRequiredSizes(fields, kSizes, &config));
  SKV_RETURN_IF_ERROR(
      ReadHeads(fields,
                {"attention.head_count", "attention.head_count_kv",
                 "attention.key_length"},
                &config));
  SKV_ASSIGN_OR_RETURN(
      const std::optional<int64_t> value_length,
      fields.Integer("attention.value_length", 1, kMaxHeadDim));
  if (value_length.value_or(config.head_dim) != config.head_dim) {
    return fields.Unsupported(
        "attention.value_length",
        fmt::format("the size of a key, {}", config.head_dim));
  }
  SKV_RETURN_IF_ERROR(CheckSlidingWindow(fields, "attention.sliding_window",
                                         config.context_length));
  SKV_ASSIGN_OR_RETURN(
      const std::optional<double> epsilon,
      fields.Number("attention.layer_norm_rms_epsilon", 0, kMaxNormEpsilon));
  if (!epsilon.has_value()) {
    return absl::DataLossError(fmt::format(
        "{}: missing", fields.FullName("attention.layer_norm_rms_epsilon")));
  }
  config.norm_epsilon = static_cast<float>(*epsilon);
  SKV_RETURN_IF_ERROR(ReadRope(fields, &config));
  SKV_RETURN_IF_ERROR(ReadFromTensors(file, fields, &config));
  return config;
}

}  // namespace sentencekv
