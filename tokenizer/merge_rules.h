// The merge rules of a vocabulary, checked.
#pragma once

#include "absl/status/statusor.h"
#include "tokenizer/bpe_merges.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {

// Reads vocabulary.merges. kInvalidArgument for a rule that is not two tokens
// with a space between, whose halves or whole are not tokens, or that is there
// twice. REQUIRES: CheckVocabulary(vocabulary).
absl::StatusOr<BpeMerges> ReadMergeRules(const Vocabulary& vocabulary);

}  // namespace sentencekv
