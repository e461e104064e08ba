// SentencePiece, from tokenizer.model and from GGUF "llama" vocabularies; the
// library does the encoding.
//
// Where the model adds a space before a text, it adds one after each control
// token too, as the reference implementations of Llama 2 do: what follows a
// control token is a text of its own. Invalid UTF-8 is encoded as U+FFFD, and
// U+2581 ("▁"), which stands for a space in pieces, decodes as one.
#pragma once

#include <memory>

#include "tokenizer/sentencepiece_library.h"
#include "tokenizer/sentencepiece_model.h"
#include "tokenizer/vocabulary_tokenizer.h"

namespace sentencekv {

class SentencePieceTokenizer : public VocabularyTokenizer {
 public:
  // kInvalidArgument names what is wrong or not supported. A vocabulary
  // without a token of the unknown type gets it by its `unknown_id`.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Make(
      SentencePieceModel model);

  bool strips_leading_space() const override { return adds_space_; }

 protected:
  absl::Status EncodePlain(std::string_view text, bool at_text_start,
                           std::vector<int32_t>& ids) const override;

 private:
  SentencePieceTokenizer(const Vocabulary& vocabulary,
                         std::vector<std::string> bytes)
      : VocabularyTokenizer(vocabulary, std::move(bytes),
                            vocabulary.add_bos.value_or(true)),
        adds_space_(vocabulary.add_space_prefix.value_or(true)) {}

  std::unique_ptr<SentencePieceLibrary> library_;
  bool adds_space_;
};

// The bytes that a SentencePiece token of this type adds to a text; of control
// tokens, how they are written.
std::string SentencePieceBytes(std::string_view token, int32_t type,
                               std::string_view unknown_surface);

}  // namespace sentencekv
