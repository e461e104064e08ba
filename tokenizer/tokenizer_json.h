// Hugging Face's tokenizer.json, read by its structure.
//
// Two families are recognised: byte-level BPE with the pre-tokenisation of
// GPT-2, Llama 3 or SmolLM2 (bpe_tokenizer.h), and BPE over characters as
// Llama 2, TinyLlama and Mistral have it (character_bpe_tokenizer.h).
#pragma once

#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "tokenizer/character_bpe_tokenizer.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {

struct TokenizerJson {
  // add_bos and bos_id come from the post-processor's template.
  Vocabulary vocabulary;
  // Set when the symbols are characters, not bytes.
  std::optional<CharacterBpeSettings> characters;
};

// kDataLoss when the text is not JSON; kInvalidArgument for a field of the
// wrong kind and, by name and value, for what is not supported.
absl::StatusOr<TokenizerJson> ParseTokenizerJson(std::string_view text);

// The tokenizer that the file describes.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(
    const TokenizerJson& json);

}  // namespace sentencekv
