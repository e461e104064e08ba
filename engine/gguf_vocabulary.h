// The vocabulary that a GGUF file carries.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/gguf.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {

// Reads tokenizer.ggml.* and tokenizer.chat_template. kDataLoss with field and
// value for lists whose lengths do not match, ids outside the vocabulary, and
// more tokens than the `num_rows` of the embedding; what the tokenizer makes
// of the values is its own check.
absl::StatusOr<Vocabulary> VocabularyFromGguf(const GgufFile& file,
                                              int64_t num_rows);

}  // namespace sentencekv
