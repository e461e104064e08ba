#include "tokenizer/character_bpe_tokenizer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/string_view.h"
#include "kernels/status_macros.h"
#include "tokenizer/merge_rules.h"
#include "tokenizer/sentencepiece_tokenizer.h"
#include "tokenizer/utf8.h"

namespace sentencekv {
namespace {

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581
constexpr std::string_view kUnknownSurface = " \xE2\x81\x87 ";

bool IsOneCharacter(std::string_view token) {
  Utf8Step step = NextUtf8(token);
  return step.kind == Utf8Kind::kCodePoint && step.size == token.size();
}

// How keys are looked up in a map of std::string.
absl::string_view Key(std::string_view text) {
  return {text.data(), text.size()};
}

}  // namespace

CharacterBpeTokenizer::CharacterBpeTokenizer(
    const Vocabulary& vocabulary, std::vector<std::string> bytes,
    const CharacterBpeSettings& settings)
    : VocabularyTokenizer(vocabulary, std::move(bytes),
                          vocabulary.add_bos.value_or(false)),
      settings_(settings),
      ignore_merges_(vocabulary.ignore_merges.value_or(false)),
      unknown_id_(vocabulary.unknown_id) {
  byte_ids_.fill(-1);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> CharacterBpeTokenizer::Make(
    const Vocabulary& vocabulary, const CharacterBpeSettings& settings) {
  SKV_RETURN_IF_ERROR(CheckVocabulary(vocabulary));
  std::vector<std::string> bytes;
  bytes.reserve(vocabulary.tokens.size());
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    bytes.push_back(SentencePieceBytes(
        vocabulary.tokens[id], TypeOf(vocabulary, id), kUnknownSurface));
  }
  std::unique_ptr<CharacterBpeTokenizer> made(
      new CharacterBpeTokenizer(vocabulary, std::move(bytes), settings));
  SKV_ASSIGN_OR_RETURN(made->merges_, ReadMergeRules(vocabulary));
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const std::string& token = vocabulary.tokens[i];
    const int32_t id = static_cast<int32_t>(i);
    switch (TypeOf(vocabulary, i)) {
      case kUserDefinedToken:
        made->user_defined_.Add(token, id);
        break;
      case kByteToken:
        made->byte_ids_[static_cast<uint8_t>(made->bytes(i)[0])] = id;
        break;
      case kNormalToken:
        if (made->ignore_merges_ || IsOneCharacter(token)) {
          made->whole_tokens_[token] = id;
        }
        break;
      default:
        break;
    }
  }
  return made;
}

absl::Status CharacterBpeTokenizer::EncodePlain(
    std::string_view text, bool at_text_start,
    std::vector<int32_t>& ids) const {
  size_t begin = 0;
  while (auto match = user_defined_.Find(text, begin)) {
    EncodeStretch(text.substr(begin, match->begin - begin),
                  at_text_start && begin == 0, ids);
    ids.push_back(match->id);
    begin = match->end;
  }
  EncodeStretch(text.substr(begin), at_text_start && begin == 0, ids);
  return absl::OkStatus();
}

void CharacterBpeTokenizer::EncodeStretch(std::string_view text, bool is_first,
                                          std::vector<int32_t>& ids) const {
  using SpacePrefix = CharacterBpeSettings::SpacePrefix;
  if (text.empty()) return;
  std::string written;
  written.reserve(text.size() + text.size() / 2);
  const bool has_space =
      text.starts_with(' ') || text.starts_with(kSpaceSymbol);
  if (settings_.space_prefix == SpacePrefix::kAll ||
      (settings_.space_prefix == SpacePrefix::kFirst && is_first)) {
    if (!settings_.only_where_missing || !has_space) written = kSpaceSymbol;
  }
  for (char byte : text) {
    if (byte == ' ') {
      written += kSpaceSymbol;
    } else {
      written.push_back(byte);
    }
  }

  BpeMerges::Workspace workspace;
  std::string_view rest = written;
  while (!rest.empty()) {
    size_t end = rest.size();
    if (settings_.cut_before_spaces) {
      // A word begins with its space, if any: the next one ends it.
      end = std::min(end, rest.find(kSpaceSymbol, 1));
    }
    EncodeWord(rest.substr(0, end), workspace, ids);
    rest.remove_prefix(end);
  }
}

void CharacterBpeTokenizer::EncodeWord(std::string_view word,
                                       BpeMerges::Workspace& workspace,
                                       std::vector<int32_t>& ids) const {
  if (ignore_merges_) {
    auto whole = whole_tokens_.find(Key(word));
    if (whole != whole_tokens_.end()) {
      ids.push_back(whole->second);
      return;
    }
  }
  std::vector<int32_t> symbols;
  bool after_unknown = false;
  while (!word.empty()) {
    std::string_view character = word.substr(0, NextUtf8(word).size);
    word.remove_prefix(character.size());
    auto known = whole_tokens_.find(Key(character));
    if (known != whole_tokens_.end()) {
      symbols.push_back(known->second);
      after_unknown = false;
    } else if (FallBackToBytes(character, symbols)) {
      after_unknown = false;
    } else if (unknown_id_.has_value()) {
      if (!after_unknown || !settings_.fuse_unknown) {
        symbols.push_back(*unknown_id_);
      }
      after_unknown = true;
    }
  }
  merges_.Apply(symbols, workspace);
  ids.insert(ids.end(), symbols.begin(), symbols.end());
}

bool CharacterBpeTokenizer::FallBackToBytes(
    std::string_view character, std::vector<int32_t>& symbols) const {
  if (!settings_.byte_fallback) return false;
  const size_t size = symbols.size();
  for (char byte : character) {
    int32_t id = byte_ids_[static_cast<uint8_t>(byte)];
    if (id < 0) {
      symbols.resize(size);
      return false;
    }
    symbols.push_back(id);
  }
  return true;
}

}  // namespace sentencekv
