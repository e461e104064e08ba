// From a path to a model that runs: GGUF file or Hugging Face folder.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/model.h"
#include "kernels/backend.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {

struct ModelLoadOptions {
  int64_t max_tokens_per_step = 256;  // sizes the activations
  int64_t max_logits_per_step = 64;   // sizes the logits
  // Called now and then with 0..1 while weights are packed; may be null.
  std::function<void(double fraction)> on_progress;
};

struct LoadedModel {
  std::unique_ptr<Model> model;
  std::unique_ptr<Tokenizer> tokenizer;
  std::string chat_template;  // Jinja source, "" when there is none
};

// Loads `path` onto `backend`, which must outlive the model.
//   kNotFound            no such file or folder
//   kDataLoss            truncated, overlapping or inconsistent file
//   kUnimplemented       a field whose value is not supported, by name and
//   value kResourceExhausted   the weights do not fit
absl::StatusOr<LoadedModel> LoadModel(const std::string& path, Backend& backend,
                                      const ModelLoadOptions& options);

// The network of the config.json at `config_path` with random weights, and a
// tokenizer with a token for each byte: random_checkpoint.h.
absl::StatusOr<LoadedModel> LoadRandomModel(const std::string& config_path,
                                            Backend& backend,
                                            const ModelLoadOptions& options);

// What a model file or folder contains, as a report for people: metadata,
// tensors by type, configuration, tokenizer. Reads no weights. A model that is
// well formed but not supported gets a report that says why; other errors as
// LoadModel.
absl::StatusOr<std::string> InspectModel(const std::string& path);

}  // namespace sentencekv
