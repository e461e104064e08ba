// Byte-level BPE, as GPT-2, Llama 3 and SmolLM use it.
//
// Text is cut into words (pretokenizer.h); each byte of a word is a symbol;
// symbols are joined by rank (bpe_merges.h). Vocabularies write a byte as a
// printable character (GPT-2's table), so that tokens are valid text. A byte
// without a token is dropped, as the reference implementations do. User-defined
// tokens are taken out of the text before it is cut.
#pragma once

#include <array>
#include <memory>

#include "tokenizer/bpe_merges.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/vocabulary_tokenizer.h"

namespace sentencekv {

class BpeTokenizer : public VocabularyTokenizer {
 public:
  // `vocabulary.model` is "gpt2". kInvalidArgument names what is wrong or not
  // supported.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Make(
      const Vocabulary& vocabulary);

 protected:
  absl::Status EncodePlain(std::string_view text, bool at_text_start,
                           std::vector<int32_t>& ids) const override;

 private:
  BpeTokenizer(const Vocabulary& vocabulary, std::vector<std::string> bytes,
               bool adds_bos)
      : VocabularyTokenizer(vocabulary, std::move(bytes), adds_bos) {}

  absl::Status EncodeWords(std::string_view text,
                           std::vector<int32_t>& ids) const;

  std::unique_ptr<Pretokenizer> pretokenizer_;
  BpeMerges merges_;
  std::array<int32_t, 256> byte_ids_;  // -1: the byte has no token
  LiteralMatcher user_defined_;
  // Every normal token by its bytes (views of the base's); empty unless merges
  // are ignored for them.
  absl::flat_hash_map<std::string_view, int32_t> whole_words_;
};

}  // namespace sentencekv
