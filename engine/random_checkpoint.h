// A network that nobody trained, for measuring: time and memory do not depend
// on what the weights are.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint.h"

namespace sentencekv {

// The network of a Hugging Face config.json, with random weights in BF16: the
// same for the same file. Norms are 1; a matrix keeps the size of what it
// multiplies. All matrices are pieces of one block of numbers, that of the
// largest and a little more: making 16 GB would take longer than measuring.
// Errors as OpenCheckpoint and Checkpoint::Config.
absl::StatusOr<Checkpoint> MakeRandomCheckpoint(const std::string& config_path);

}  // namespace sentencekv
