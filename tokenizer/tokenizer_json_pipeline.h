// The steps of a tokenizer.json around its model: normalizer, pre-tokenizer,
// post-processor and decoder. Recognised as a whole, never run one by one.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "tokenizer/character_bpe_tokenizer.h"

namespace sentencekv {

struct TokenizerPipeline {
  // Byte-level: the name of the pre-tokenisation (pretokenizer.h).
  std::string pre;
  // Otherwise: what the steps come to.
  std::optional<CharacterBpeSettings> characters;
  // The control token that goes before every text; "" for none.
  std::string first;
};

// kInvalidArgument names the step that is not supported.
absl::StatusOr<TokenizerPipeline> ReadPipeline(const nlohmann::json& root);

}  // namespace sentencekv
