// From an opened checkpoint to a network that runs.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/checkpoint.h"
#include "engine/model.h"
#include "engine/model_config.h"
#include "engine/model_loader.h"
#include "kernels/backend.h"

namespace sentencekv {

// Packs the weights of `checkpoint`, which is not needed afterwards, onto
// `backend`, which must outlive the model. Errors as LoadModel.
absl::StatusOr<std::unique_ptr<Model>> LoadLlama(
    const Checkpoint& checkpoint, const LlamaConfig& config, Backend& backend,
    const ModelLoadOptions& options);

}  // namespace sentencekv
