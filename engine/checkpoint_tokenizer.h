// The tokenizer that comes with a checkpoint.
#pragma once

#include "absl/status/statusor.h"
#include "engine/checkpoint.h"
#include "engine/model_config.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {

// From the metadata of a GGUF file, or the tokenizer files of a folder; for
// random weights one with a token for each byte.
// kDataLoss when it has more tokens than the embedding has rows; errors of the
// tokenizers otherwise.
absl::StatusOr<LoadedTokenizer> LoadCheckpointTokenizer(
    const Checkpoint& checkpoint, const LlamaConfig& config);

}  // namespace sentencekv
