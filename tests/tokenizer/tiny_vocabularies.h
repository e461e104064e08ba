// Small vocabularies for the tests of tokenizers.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace sentencekv {

// The character that byte-level vocabularies write for a byte, as UTF-8.
std::string ByteCharacter(uint8_t byte);
// A text as byte-level vocabularies write it: " a" is "Ġa".
std::string ByteLevelText(std::string_view text);

// Byte-level BPE: ids 0 to 255 are the bytes, then one token for each of
// `merges` ("left right", written plainly: "_" stands for a space), then
// "<|im_start|>", "<|im_end|>" and "<|endoftext|>" as control tokens, the last
// of them BOS, the second EOS.
Vocabulary ByteLevelVocabulary(std::string_view pre,
                               const std::vector<std::string>& merges);

// Merges that make each of `words` one token, from left to right; for
// ByteLevelVocabulary.
std::vector<std::string> MergesForWords(const std::vector<std::string>& words);

// A SentencePiece vocabulary: <unk>, <s>, </s>, 256 byte tokens when
// `byte_fallback`, then `pieces` ("_" stands for a space), each with a score
// one lower than that before.
Vocabulary SentencePieceVocabulary(const std::vector<std::string>& pieces,
                                   bool byte_fallback = true);

// Valid UTF-8 of `num_code_points`, from all planes, ASCII half of the time.
std::string RandomText(std::mt19937& random, size_t num_code_points);
std::string RandomBytes(std::mt19937& random, size_t size);

// Texts that are hard on tokenizers, each of `size` bytes.
struct NamedText {
  std::string name;
  std::string text;
};
std::vector<NamedText> HostileTexts(size_t size);

}  // namespace sentencekv
