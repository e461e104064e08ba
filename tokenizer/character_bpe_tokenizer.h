// BPE over characters, as the tokenizer.json files of Llama 2, TinyLlama and
// Mistral describe their SentencePiece vocabularies.
//
// Spaces are written "▁"; a character without a token becomes the tokens of
// its bytes, "<0xNN>", else the unknown token; symbols are joined by rank.
#pragma once

#include <array>
#include <memory>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "tokenizer/bpe_merges.h"
#include "tokenizer/vocabulary_tokenizer.h"

namespace sentencekv {

// What tokenizer.json says beyond the vocabulary.
struct CharacterBpeSettings {
  // Which stretches between control tokens get a "▁" before them.
  enum class SpacePrefix : uint8_t { kNone, kFirst, kAll };
  SpacePrefix space_prefix = SpacePrefix::kNone;
  // A stretch that begins with a space gets none.
  bool only_where_missing = false;
  bool cut_before_spaces = false;  // merges do not cross them
  bool byte_fallback = false;
  bool fuse_unknown = false;  // neighbouring unknown characters are one token
  bool strips_leading_space = false;
};

class CharacterBpeTokenizer : public VocabularyTokenizer {
 public:
  // kInvalidArgument names what is wrong or not supported. `vocabulary`:
  // ignore_merges is honoured; absent, add_bos is false.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Make(
      const Vocabulary& vocabulary, const CharacterBpeSettings& settings);

  bool strips_leading_space() const override {
    return settings_.strips_leading_space;
  }

 protected:
  absl::Status EncodePlain(std::string_view text, bool at_text_start,
                           std::vector<int32_t>& ids) const override;

 private:
  CharacterBpeTokenizer(const Vocabulary& vocabulary,
                        std::vector<std::string> bytes,
                        const CharacterBpeSettings& settings);

  void EncodeStretch(std::string_view text, bool is_first,
                     std::vector<int32_t>& ids) const;
  void EncodeWord(std::string_view word, BpeMerges::Workspace& workspace,
                  std::vector<int32_t>& ids) const;
  // Appends the tokens of the bytes; false when one has none.
  bool FallBackToBytes(std::string_view character,
                       std::vector<int32_t>& symbols) const;

  CharacterBpeSettings settings_;
  BpeMerges merges_;
  bool ignore_merges_;
  std::optional<int32_t> unknown_id_;
  std::array<int32_t, 256> byte_ids_;  // -1: the byte has no token
  LiteralMatcher user_defined_;
  // Normal tokens by how they are written: single characters, and the others
  // too when merges are ignored.
  absl::flat_hash_map<std::string, int32_t> whole_tokens_;
};

}  // namespace sentencekv
