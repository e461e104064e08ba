// A model as it lies on disk, opened and checked, before anything is packed:
// a GGUF file or a Hugging Face folder.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint_tensor.h"
#include "engine/gguf.h"
#include "engine/llama_tensors.h"
#include "engine/mapped_file.h"
#include "engine/model_config.h"

namespace sentencekv {

// Move-only; the tensors and the GGUF metadata borrow from `files`, or from
// `random_numbers`.
struct Checkpoint {
  std::string path;
  std::vector<MappedFile> files;
  std::optional<GgufFile> gguf;  // none: a Hugging Face folder
  std::string config_json;       // of a Hugging Face folder
  std::vector<CheckpointTensor> tensors;
  // What the tensors of MakeRandomCheckpoint borrow from; else empty.
  std::vector<uint64_t> random_numbers;

  TensorNaming naming() const {
    return gguf.has_value() ? TensorNaming::kGguf : TensorNaming::kHuggingFace;
  }
  // The network that the checkpoint describes; errors as model_config.h.
  absl::StatusOr<LlamaConfig> Config() const;
  // The storage type that holds most elements of matrices, e.g. "Q4_1".
  std::string DominantType() const;
};

// Opens `path`: a regular file is GGUF, a folder is Hugging Face's. kNotFound
// when there is neither; errors of the readers otherwise.
absl::StatusOr<Checkpoint> OpenCheckpoint(const std::string& path);

// The text of a config.json. kDataLoss when it is absurdly long.
absl::StatusOr<std::string> ReadConfigJson(const std::string& path);

}  // namespace sentencekv
