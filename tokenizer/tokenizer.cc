#include "tokenizer/tokenizer.h"

#include <fmt/format.h>

#include <utility>

#include "kernels/quoted.h"
#include "kernels/status_macros.h"
#include "tokenizer/bpe_tokenizer.h"
#include "tokenizer/sentencepiece_tokenizer.h"

namespace sentencekv {

absl::StatusOr<std::vector<int32_t>> Tokenizer::EncodePieces(
    std::span<const TextPiece> pieces, bool add_bos) const {
  SKV_ASSIGN_OR_RETURN(auto ids, Encode("", {.add_bos = add_bos}));
  for (const TextPiece& piece : pieces) {
    EncodeOptions options{piece.parse_special, /*add_bos=*/false};
    SKV_ASSIGN_OR_RETURN(auto more, Encode(piece.text, options));
    ids.insert(ids.end(), more.begin(), more.end());
  }
  return ids;
}

std::string Tokenizer::Decode(std::span<const int32_t> ids,
                              bool render_special) const {
  std::string text;
  for (int32_t id : ids) text += TokenBytes(id, render_special);
  if (strips_leading_space() && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(
    Vocabulary vocabulary) {
  if (vocabulary.model == "gpt2") return BpeTokenizer::Make(vocabulary);
  if (vocabulary.model == "llama") {
    SentencePieceModel model;
    model.vocabulary = std::move(vocabulary);
    return SentencePieceTokenizer::Make(std::move(model));
  }
  return absl::InvalidArgumentError(
      fmt::format("vocabulary: model is not supported (llama and gpt2 are): {}",
                  Quoted(vocabulary.model)));
}

}  // namespace sentencekv
