#include "tokenizer/sentencepiece_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581

// Gives a vocabulary that names its unknown token only by id the type for it.
void MarkUnknown(Vocabulary& vocabulary) {
  auto& types = vocabulary.token_types;
  if (types.empty()) types.assign(vocabulary.tokens.size(), kNormalToken);
  if (!vocabulary.unknown_id.has_value()) return;
  if (std::find(types.begin(), types.end(), kUnknownToken) != types.end()) {
    return;
  }
  types[*vocabulary.unknown_id] = kUnknownToken;
}

// Gives control tokens names that no text spells. They are recognised before
// the library sees a text, and it would take a control token of one character
// for that character.
void HideControlTokens(Vocabulary& vocabulary) {
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (TypeOf(vocabulary, id) != kControlToken) continue;
    vocabulary.tokens[id] = fmt::format("\x01control token {}\x01", id);
  }
}

}  // namespace

std::string SentencePieceBytes(std::string_view token, int32_t type,
                               std::string_view unknown_surface) {
  if (type == kControlToken) return std::string(token);
  if (type == kUnknownToken) return std::string(unknown_surface);
  if (type == kByteToken) {
    int byte = 0;  // of "<0xNN>"
    std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
    return std::string(1, static_cast<char>(byte));
  }
  std::string bytes;
  while (!token.empty()) {
    size_t space = std::min(token.find(kSpaceSymbol), token.size());
    bytes += token.substr(0, space);
    token.remove_prefix(space);
    if (token.empty()) break;
    bytes.push_back(' ');
    token.remove_prefix(kSpaceSymbol.size());
  }
  return bytes;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> SentencePieceTokenizer::Make(
    SentencePieceModel model) {
  Vocabulary& vocabulary = model.vocabulary;
  SKV_RETURN_IF_ERROR(CheckVocabulary(vocabulary));
  MarkUnknown(vocabulary);
  SKV_RETURN_IF_ERROR(CheckSentencePieceModel(model));

  std::vector<std::string> bytes;
  bytes.reserve(vocabulary.tokens.size());
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    bytes.push_back(SentencePieceBytes(
        vocabulary.tokens[id], TypeOf(vocabulary, id), model.unknown_surface));
  }
  std::unique_ptr<SentencePieceTokenizer> made(
      new SentencePieceTokenizer(vocabulary, std::move(bytes)));
  HideControlTokens(vocabulary);
  std::string error;
  made->library_ =
      SentencePieceLibrary::Load(SerializeSentencePieceModel(model), &error);
  if (made->library_ == nullptr) {
    return absl::InvalidArgumentError(fmt::format(
        "the SentencePiece library refuses the vocabulary: {}", error));
  }
  return made;
}

absl::Status SentencePieceTokenizer::EncodePlain(
    std::string_view text, bool /*at_text_start*/,
    std::vector<int32_t>& ids) const {
  std::string error;
  if (library_->Encode(text, &ids, &error)) return absl::OkStatus();
  return absl::InternalError(
      fmt::format("the SentencePiece library fails: {}", error));
}

}  // namespace sentencekv
