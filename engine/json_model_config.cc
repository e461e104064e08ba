// LlamaConfig from a Hugging Face config.json. Fields and defaults:
// https://huggingface.co/docs/transformers/model_doc/llama.
#include <optional>

#include "engine/json_fields.h"
#include "engine/model_config.h"
#include "engine/model_config_checks.h"
#include "fmt/format.h"
#include "kernels/quoted.h"
#include "kernels/status_macros.h"
#include "tokenizer/strict_json.h"

namespace sentencekv {
namespace {

using Json = nlohmann::json;

constexpr RequiredSize kSizes[] = {
    {"num_hidden_layers", &LlamaConfig::num_layers, kMaxModelLayers},
    {"hidden_size", &LlamaConfig::width, kMaxModelWidth},
    {"intermediate_size", &LlamaConfig::ffn_width, kMaxFfnWidth},
    {"num_attention_heads", &LlamaConfig::num_heads, kMaxHeads},
    {"vocab_size", &LlamaConfig::vocab_size, kMaxVocabSize},
    {"max_position_embeddings", &LlamaConfig::context_length,
     kMaxContextLength},
};

// Fields of other networks: refused when they are there at all (not null).
constexpr std::string_view kRefusedFields[] = {
    "quantization_config",     "num_local_experts",    "num_experts",
    "n_routed_experts",        "attention_multiplier", "residual_multiplier",
    "logits_scaling",          "embedding_multiplier", "attn_logit_softcapping",
    "final_logit_softcapping", "no_rope_layers",       "layer_types",
};

absl::Status CheckArchitecture(const Json& json, const JsonFields& fields) {
  SKV_ASSIGN_OR_RETURN(const std::optional<std::string> type,
                       fields.Text("model_type"));
  if (type.has_value() && *type != "llama" && *type != "mistral") {
    return fields.Unsupported("model_type", "'llama' and 'mistral'");
  }
  const auto found = json.find("architectures");
  if (found == json.end() || found->is_null()) {
    if (type.has_value()) return absl::OkStatus();
    return absl::DataLossError("model_type: missing, and no architectures");
  }
  if (!found->is_array() || found->size() != 1 || !found->at(0).is_string()) {
    return absl::UnimplementedError(
        "architectures: not supported, only a list of one name");
  }
  const auto& name = found->at(0).get_ref<const std::string&>();
  if (name != "LlamaForCausalLM" && name != "MistralForCausalLM") {
    return absl::UnimplementedError(
        fmt::format("architectures: not supported, only 'LlamaForCausalLM' and "
                    "'MistralForCausalLM'; got {}",
                    Quoted(name)));
  }
  return absl::OkStatus();
}

// Fields that are supported at one value only.
absl::Status CheckFixedFields(const JsonFields& fields) {
  for (const std::string_view key : kRefusedFields) {
    if (fields.Has(key)) return fields.Unsupported(key, "none");
  }
  SKV_ASSIGN_OR_RETURN(const std::optional<std::string> activation,
                       fields.Text("hidden_act"));
  if (activation.value_or("silu") != "silu") {
    return fields.Unsupported("hidden_act", "'silu'");
  }
  SKV_ASSIGN_OR_RETURN(const std::optional<double> partial,
                       fields.Number("partial_rotary_factor", 0, 1));
  if (partial.value_or(1) != 1) {
    return fields.Unsupported("partial_rotary_factor", "1");
  }
  SKV_ASSIGN_OR_RETURN(const std::optional<bool> interleaved,
                       fields.Boolean("rope_interleaved"));
  if (interleaved.value_or(false)) {
    return fields.Unsupported("rope_interleaved", "false");
  }
  return absl::OkStatus();
}

absl::Status ReadFactor(const JsonFields& fields, RopeScaling* scaling) {
  SKV_ASSIGN_OR_RETURN(const std::optional<double> factor,
                       fields.Number("factor", 1, kMaxRopeFactor));
  if (!factor.has_value()) {
    return absl::DataLossError(
        fmt::format("{}: missing", fields.FullName("factor")));
  }
  scaling->factor = *factor;
  return absl::OkStatus();
}

absl::Status ReadLlama3(const JsonFields& fields, RopeScaling* scaling) {
  scaling->type = RopeScalingType::kLlama3;
  SKV_RETURN_IF_ERROR(ReadFactor(fields, scaling));
  SKV_ASSIGN_OR_RETURN(
      scaling->original_context_length,
      fields.RequiredInteger("original_max_position_embeddings", 1,
                             kMaxContextLength));
  SKV_ASSIGN_OR_RETURN(const std::optional<double> low,
                       fields.Number("low_freq_factor", 1e-3, 1e6));
  SKV_ASSIGN_OR_RETURN(const std::optional<double> high,
                       fields.Number("high_freq_factor", 1e-3, 1e6));
  scaling->low_frequency_factor = low.value_or(1);
  scaling->high_frequency_factor = high.value_or(4);
  if (scaling->high_frequency_factor <= scaling->low_frequency_factor) {
    return absl::DataLossError(fmt::format(
        "{}: must be above {} = {}, got {}",
        fields.FullName("high_freq_factor"), fields.FullName("low_freq_factor"),
        scaling->low_frequency_factor, scaling->high_frequency_factor));
  }
  return absl::OkStatus();
}

// The factor that cos and sin are multiplied by: given, or from mscale and
// mscale_all_dim, or the recommended one.
absl::Status ReadYarnMagnitude(const JsonFields& fields, RopeScaling* scaling) {
  SKV_ASSIGN_OR_RETURN(const std::optional<double> attention_factor,
                       fields.Number("attention_factor", 1e-3, 1e3));
  SKV_ASSIGN_OR_RETURN(const std::optional<double> mscale,
                       fields.Number("mscale", 0, 1e3));
  SKV_ASSIGN_OR_RETURN(const std::optional<double> mscale_all,
                       fields.Number("mscale_all_dim", 0, 1e3));
  scaling->magnitude = YarnMagnitude(scaling->factor);
  if (attention_factor.has_value()) {
    scaling->magnitude = *attention_factor;
  } else if (mscale.value_or(0) != 0 && mscale_all.value_or(0) != 0) {
    scaling->magnitude = YarnMagnitude(scaling->factor, *mscale) /
                         YarnMagnitude(scaling->factor, *mscale_all);
  }
  return absl::OkStatus();
}

absl::Status ReadYarn(const JsonFields& fields, int64_t context_length,
                      RopeScaling* scaling) {
  scaling->type = RopeScalingType::kYarn;
  SKV_RETURN_IF_ERROR(ReadFactor(fields, scaling));
  SKV_ASSIGN_OR_RETURN(
      const std::optional<int64_t> original,
      fields.Integer("original_max_position_embeddings", 1, kMaxContextLength));
  SKV_ASSIGN_OR_RETURN(const std::optional<double> beta_fast,
                       fields.Number("beta_fast", 1e-3, 1e6));
  SKV_ASSIGN_OR_RETURN(const std::optional<double> beta_slow,
                       fields.Number("beta_slow", 1e-3, 1e6));
  SKV_ASSIGN_OR_RETURN(const std::optional<bool> truncate,
                       fields.Boolean("truncate"));
  scaling->original_context_length = original.value_or(context_length);
  scaling->beta_fast = beta_fast.value_or(32);
  scaling->beta_slow = beta_slow.value_or(1);
  scaling->truncate = truncate.value_or(true);
  return ReadYarnMagnitude(fields, scaling);
}

absl::Status ReadScaling(const JsonFields& fields, LlamaConfig* config) {
  RopeScaling* scaling = &config->rope.scaling;
  // "type" is the older name.
  const std::string_view key = fields.Has("rope_type") ? "rope_type" : "type";
  SKV_ASSIGN_OR_RETURN(const std::optional<std::string> type, fields.Text(key));
  const std::string name = type.value_or("default");
  if (name == "default") return absl::OkStatus();
  if (name == "linear") {
    scaling->type = RopeScalingType::kLinear;
    return ReadFactor(fields, scaling);
  }
  if (name == "llama3") return ReadLlama3(fields, scaling);
  if (name == "yarn") return ReadYarn(fields, config->context_length, scaling);
  return fields.Unsupported(key, "default, linear, llama3 and yarn");
}

absl::Status ReadRope(const Json& json, const JsonFields& fields,
                      LlamaConfig* config) {
  config->rope.rotary_dims = config->head_dim;
  SKV_ASSIGN_OR_RETURN(
      std::optional<double> theta,
      fields.Number("rope_theta", kMinRopeTheta, kMaxRopeTheta));
  // "rope_parameters" is what newer files call it, with theta inside.
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    const auto found = json.find(key);
    if (found == json.end() || found->is_null()) continue;
    if (!found->is_object()) {
      return absl::DataLossError(fmt::format("{}: not an object", key));
    }
    const JsonFields inner(*found, fmt::format("{}.", key));
    SKV_ASSIGN_OR_RETURN(
        const std::optional<double> inner_theta,
        inner.Number("rope_theta", kMinRopeTheta, kMaxRopeTheta));
    if (inner_theta.has_value()) theta = inner_theta;
    SKV_ASSIGN_OR_RETURN(const std::optional<double> partial,
                         inner.Number("partial_rotary_factor", 0, 1));
    if (partial.value_or(1) != 1) {
      return inner.Unsupported("partial_rotary_factor", "1");
    }
    config->rope.theta = theta.value_or(10000);
    SKV_RETURN_IF_ERROR(ReadScaling(inner, config));
  }
  config->rope.theta = theta.value_or(10000);
  return absl::OkStatus();
}

absl::Status ReadFlag(const JsonFields& fields, std::string_view key,
                      bool* flag) {
  SKV_ASSIGN_OR_RETURN(const std::optional<bool> value, fields.Boolean(key));
  *flag = value.value_or(false);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LlamaConfig> LlamaConfigFromJson(std::string_view json_text) {
  SKV_ASSIGN_OR_RETURN(const Json json,
                       ParseJsonObject(json_text, "config.json"));
  const JsonFields fields(json);
  LlamaConfig config;
  config.rope_layout = RopeLayout::kHalves;
  SKV_RETURN_IF_ERROR(CheckArchitecture(json, fields));
  SKV_RETURN_IF_ERROR(CheckFixedFields(fields));
  SKV_RETURN_IF_ERROR(ReadRequiredSizes(fields, kSizes, &config));
  SKV_RETURN_IF_ERROR(ReadHeads(
      fields, {"num_attention_heads", "num_key_value_heads", "head_dim"},
      &config));
  SKV_RETURN_IF_ERROR(
      CheckSlidingWindow(fields, "sliding_window", config.context_length));
  SKV_ASSIGN_OR_RETURN(const std::optional<double> epsilon,
                       fields.Number("rms_norm_eps", 0, kMaxNormEpsilon));
  config.norm_epsilon = static_cast<float>(epsilon.value_or(1e-6));
  SKV_RETURN_IF_ERROR(ReadRope(json, fields, &config));
  SKV_RETURN_IF_ERROR(
      ReadFlag(fields, "tie_word_embeddings", &config.tied_output));
  SKV_RETURN_IF_ERROR(ReadFlag(fields, "attention_bias", &config.qkv_bias));
  config.attention_output_bias = config.qkv_bias;
  SKV_RETURN_IF_ERROR(ReadFlag(fields, "mlp_bias", &config.ffn_bias));
  return config;
}

}  // namespace sentencekv
