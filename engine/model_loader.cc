#include "engine/model_loader.h"

#include <utility>

#include "engine/checkpoint.h"
#include "engine/checkpoint_tokenizer.h"
#include "engine/llama_loader.h"
#include "engine/random_checkpoint.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

absl::StatusOr<LoadedModel> Load(const Checkpoint& checkpoint, Backend& backend,
                                 const ModelLoadOptions& options) {
  SKV_ASSIGN_OR_RETURN(const LlamaConfig config, checkpoint.Config());
  // The tokenizer first: it is quick, and its refusals should be too.
  SKV_ASSIGN_OR_RETURN(LoadedTokenizer tokenizer,
                       LoadCheckpointTokenizer(checkpoint, config));
  LoadedModel loaded;
  SKV_ASSIGN_OR_RETURN(loaded.model,
                       LoadLlama(checkpoint, config, backend, options));
  loaded.tokenizer = std::move(tokenizer.tokenizer);
  loaded.chat_template = std::move(tokenizer.chat_template);
  return loaded;
}

}  // namespace

absl::StatusOr<LoadedModel> LoadModel(const std::string& path, Backend& backend,
                                      const ModelLoadOptions& options) {
  SKV_ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenCheckpoint(path));
  return Load(checkpoint, backend, options);
}

absl::StatusOr<LoadedModel> LoadRandomModel(const std::string& config_path,
                                            Backend& backend,
                                            const ModelLoadOptions& options) {
  SKV_ASSIGN_OR_RETURN(const Checkpoint checkpoint,
                       MakeRandomCheckpoint(config_path));
  return Load(checkpoint, backend, options);
}

}  // namespace sentencekv
