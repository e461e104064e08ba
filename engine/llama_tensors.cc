#include "engine/llama_tensors.h"

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "fmt/format.h"
#include "kernels/block_formats.h"
#include "kernels/check.h"
#include "kernels/quoted.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// A part of a layer: its two names, without the layer's prefix.
struct LayerPart {
  const CheckpointTensor* LlamaLayerTensors::*member;
  std::string_view gguf;
  std::string_view hugging_face;
};

constexpr LayerPart kAttentionNorm = {&LlamaLayerTensors::attention_norm,
                                      "attn_norm.weight",
                                      "input_layernorm.weight"};
constexpr LayerPart kFfnNorm = {&LlamaLayerTensors::ffn_norm, "ffn_norm.weight",
                                "post_attention_layernorm.weight"};
// A matrix, and the bias that goes with it.
struct LayerMatrix {
  LayerPart weight;
  LayerPart bias;
};

constexpr LayerMatrix kQ = {
    {&LlamaLayerTensors::q, "attn_q.weight", "self_attn.q_proj.weight"},
    {&LlamaLayerTensors::q_bias, "attn_q.bias", "self_attn.q_proj.bias"}};
constexpr LayerMatrix kK = {
    {&LlamaLayerTensors::k, "attn_k.weight", "self_attn.k_proj.weight"},
    {&LlamaLayerTensors::k_bias, "attn_k.bias", "self_attn.k_proj.bias"}};
constexpr LayerMatrix kV = {
    {&LlamaLayerTensors::v, "attn_v.weight", "self_attn.v_proj.weight"},
    {&LlamaLayerTensors::v_bias, "attn_v.bias", "self_attn.v_proj.bias"}};
constexpr LayerMatrix kAttentionOutput = {
    {&LlamaLayerTensors::attention_output, "attn_output.weight",
     "self_attn.o_proj.weight"},
    {&LlamaLayerTensors::attention_output_bias, "attn_output.bias",
     "self_attn.o_proj.bias"}};
constexpr LayerMatrix kGate = {
    {&LlamaLayerTensors::gate, "ffn_gate.weight", "mlp.gate_proj.weight"},
    {&LlamaLayerTensors::gate_bias, "ffn_gate.bias", "mlp.gate_proj.bias"}};
constexpr LayerMatrix kUp = {
    {&LlamaLayerTensors::up, "ffn_up.weight", "mlp.up_proj.weight"},
    {&LlamaLayerTensors::up_bias, "ffn_up.bias", "mlp.up_proj.bias"}};
constexpr LayerMatrix kDown = {
    {&LlamaLayerTensors::down, "ffn_down.weight", "mlp.down_proj.weight"},
    {&LlamaLayerTensors::down_bias, "ffn_down.bias", "mlp.down_proj.bias"}};

class Finder {
 public:
  Finder(const LlamaConfig& config, TensorNaming naming,
         std::span<const CheckpointTensor> tensors)
      : config_(config), naming_(naming) {
    for (const CheckpointTensor& tensor : tensors) {
      unused_.emplace(tensor.name, &tensor);
    }
  }

  // Finds nothing, and notes in `needed` what there should be.
  Finder(const LlamaConfig& config, std::vector<CheckpointTensor>* needed)
      : config_(config), naming_(TensorNaming::kHuggingFace), needed_(needed) {}

  absl::StatusOr<LlamaTensors> Find() {
    LlamaTensors found;
    const int64_t vocab = config_.vocab_size, width = config_.width;
    SKV_ASSIGN_OR_RETURN(
        found.embedding,
        Take(Named("token_embd.weight", "model.embed_tokens.weight"),
             {vocab, width}));
    SKV_ASSIGN_OR_RETURN(
        found.output_norm,
        Take(Named("output_norm.weight", "model.norm.weight"), {width}));
    const std::string_view output = Named("output.weight", "lm_head.weight");
    if (!config_.tied_output) {
      SKV_ASSIGN_OR_RETURN(found.output, Take(output, {vocab, width}));
    } else {
      // Some tied checkpoints store the matrix a second time.
      unused_.erase(output);
    }
    if (naming_ == TensorNaming::kGguf &&
        unused_.contains("rope_freqs.weight")) {
      SKV_ASSIGN_OR_RETURN(
          found.rope_factors,
          Take("rope_freqs.weight", {config_.rope.rotary_dims / 2}));
    }
    for (int64_t i = 0; i < config_.num_layers; ++i) {
      SKV_ASSIGN_OR_RETURN(const LlamaLayerTensors layer, FindLayer(i));
      found.layers.push_back(layer);
    }
    SKV_RETURN_IF_ERROR(CheckUnused());
    found.num_parameters = num_parameters_;
    return found;
  }

 private:
  std::string_view Named(std::string_view gguf,
                         std::string_view hugging_face) const {
    return naming_ == TensorNaming::kGguf ? gguf : hugging_face;
  }

  // Takes the tensor out of the unused ones and checks it. Vectors must be
  // plain floats; matrices may have any type.
  absl::StatusOr<const CheckpointTensor*> Take(std::string_view name,
                                               std::vector<int64_t> shape) {
    if (needed_ != nullptr) {
      needed_->push_back(
          {std::string(name), SourceType::kBF16, std::move(shape), {}});
      return nullptr;
    }
    const auto found = unused_.find(name);
    if (found == unused_.end()) {
      return absl::DataLossError(
          fmt::format("tensor {}: missing", Quoted(name)));
    }
    const CheckpointTensor* tensor = found->second;
    unused_.erase(found);
    if (tensor->shape != shape) {
      return absl::DataLossError(fmt::format(
          "tensor {}: the configuration asks for shape {}, got {}",
          Quoted(name), ShapeText(shape), ShapeText(tensor->shape)));
    }
    if (shape.size() == 1 && IsQuantized(tensor->type)) {
      return absl::UnimplementedError(
          fmt::format("tensor {}: only F32, F16 and BF16 are supported for a "
                      "vector, got {}",
                      Quoted(name), Name(tensor->type)));
    }
    num_parameters_ += tensor->num_elements();
    return tensor;
  }

  absl::Status TakePart(const LayerPart& part, int64_t index,
                        std::vector<int64_t> shape, LlamaLayerTensors* layer) {
    const std::string name =
        naming_ == TensorNaming::kGguf
            ? fmt::format("blk.{}.{}", index, part.gguf)
            : fmt::format("model.layers.{}.{}", index, part.hugging_face);
    SKV_ASSIGN_OR_RETURN(layer->*part.member, Take(name, std::move(shape)));
    return absl::OkStatus();
  }

  absl::Status TakeMatrix(const LayerMatrix& matrix, int64_t index,
                          int64_t rows, int64_t cols, bool has_bias,
                          LlamaLayerTensors* layer) {
    SKV_RETURN_IF_ERROR(TakePart(matrix.weight, index, {rows, cols}, layer));
    if (!has_bias) return absl::OkStatus();
    return TakePart(matrix.bias, index, {rows}, layer);
  }

  absl::StatusOr<LlamaLayerTensors> FindLayer(int64_t i) {
    LlamaLayerTensors layer;
    const int64_t width = config_.width, ffn = config_.ffn_width;
    const int64_t q_rows = config_.num_heads * config_.head_dim;
    const int64_t kv_rows = config_.num_kv_heads * config_.head_dim;
    const bool qkv_bias = config_.qkv_bias, ffn_bias = config_.ffn_bias;
    SKV_RETURN_IF_ERROR(TakePart(kAttentionNorm, i, {width}, &layer));
    SKV_RETURN_IF_ERROR(TakeMatrix(kQ, i, q_rows, width, qkv_bias, &layer));
    SKV_RETURN_IF_ERROR(TakeMatrix(kK, i, kv_rows, width, qkv_bias, &layer));
    SKV_RETURN_IF_ERROR(TakeMatrix(kV, i, kv_rows, width, qkv_bias, &layer));
    SKV_RETURN_IF_ERROR(TakeMatrix(kAttentionOutput, i, width, q_rows,
                                   config_.attention_output_bias, &layer));
    SKV_RETURN_IF_ERROR(TakePart(kFfnNorm, i, {width}, &layer));
    SKV_RETURN_IF_ERROR(TakeMatrix(kGate, i, ffn, width, ffn_bias, &layer));
    SKV_RETURN_IF_ERROR(TakeMatrix(kUp, i, ffn, width, ffn_bias, &layer));
    SKV_RETURN_IF_ERROR(TakeMatrix(kDown, i, width, ffn, ffn_bias, &layer));
    return layer;
  }

  absl::Status CheckUnused() const {
    for (const auto& [name, tensor] : unused_) {
      // A table that old checkpoints carry; it follows from the configuration.
      if (name.ends_with("rotary_emb.inv_freq")) continue;
      return absl::UnimplementedError(
          fmt::format("tensor {}: not part of the network that the "
                      "configuration describes ({} tensors are not)",
                      Quoted(name), unused_.size()));
    }
    return absl::OkStatus();
  }

  const LlamaConfig& config_;
  TensorNaming naming_;
  std::vector<CheckpointTensor>* const needed_ = nullptr;
  std::map<std::string_view, const CheckpointTensor*> unused_;
  int64_t num_parameters_ = 0;
};

}  // namespace

absl::StatusOr<LlamaTensors> FindLlamaTensors(
    const LlamaConfig& config, TensorNaming naming,
    std::span<const CheckpointTensor> tensors) {
  return Finder(config, naming, tensors).Find();
}

std::vector<CheckpointTensor> NeededLlamaTensors(const LlamaConfig& config) {
  std::vector<CheckpointTensor> needed;
  SKV_CHECK(Finder(config, &needed).Find().ok());
  return needed;
}

}  // namespace sentencekv
