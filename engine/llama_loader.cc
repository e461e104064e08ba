#include "engine/llama_loader.h"

#include <utility>

#include "engine/llama_model.h"
#include "engine/llama_tensors.h"
#include "engine/llama_weights.h"
#include "kernels/status_macros.h"

namespace sentencekv {

absl::StatusOr<std::unique_ptr<Model>> LoadLlama(
    const Checkpoint& checkpoint, const LlamaConfig& config, Backend& backend,
    const ModelLoadOptions& options) {
  SKV_ASSIGN_OR_RETURN(
      const LlamaTensors tensors,
      FindLlamaTensors(config, checkpoint.naming(), checkpoint.tensors));
  SKV_ASSIGN_OR_RETURN(
      LlamaWeights weights,
      PackLlamaWeights(config, tensors, backend, options.on_progress));
  ModelInfo info;
  info.name = config.name;
  info.quantization = checkpoint.DominantType();
  info.num_parameters = tensors.num_parameters;
  const LlamaModel::Limits limits{options.max_tokens_per_step,
                                  options.max_logits_per_step};
  SKV_ASSIGN_OR_RETURN(std::unique_ptr<LlamaModel> model,
                       LlamaModel::Create(config, std::move(weights),
                                          std::move(info), limits, backend));
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace sentencekv
