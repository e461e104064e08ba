#include "tokenizer/bpe_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "kernels/status_macros.h"
#include "tokenizer/merge_rules.h"
#include "tokenizer/utf8.h"

namespace sentencekv {
namespace {

// GPT-2's table: the code point that stands for each byte. Printable Latin-1
// stands for itself, the others follow from U+0100 on.
std::array<uint32_t, 256> MakeByteCharacters() {
  std::array<uint32_t, 256> characters;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    bool is_printable = (byte >= '!' && byte <= '~') ||
                        (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    characters[byte] = is_printable ? byte : next++;
  }
  return characters;
}

class ByteCharacters {
 public:
  ByteCharacters() {
    bytes_.fill(-1);
    const auto characters = MakeByteCharacters();
    for (int byte = 0; byte < 256; ++byte) bytes_[characters[byte]] = byte;
  }

  // The bytes that a token is written for; what the table does not have stands
  // for itself.
  std::string Decode(std::string_view token) const {
    std::string decoded;
    while (!token.empty()) {
      Utf8Step step = NextUtf8(token);
      std::string_view sequence = token.substr(0, step.size);
      int byte = -1;
      if (step.kind == Utf8Kind::kCodePoint) {
        uint32_t code_point = DecodeUtf8(sequence);
        if (code_point < bytes_.size()) byte = bytes_[code_point];
      }
      if (byte >= 0) {
        decoded.push_back(static_cast<char>(byte));
      } else {
        decoded += sequence;
      }
      token.remove_prefix(step.size);
    }
    return decoded;
  }

 private:
  // 256 bytes, 68 of them not printable: the last stands at U+0143.
  std::array<int, 0x144> bytes_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> BpeTokenizer::Make(
    const Vocabulary& vocabulary) {
  SKV_RETURN_IF_ERROR(CheckVocabulary(vocabulary));
  SKV_ASSIGN_OR_RETURN(auto pretokenizer, Pretokenizer::Make(vocabulary.pre));
  const bool is_llama3 = pretokenizer->ignore_merges();

  const size_t count = vocabulary.tokens.size();
  const ByteCharacters byte_characters;
  std::vector<std::string> bytes(count);
  for (size_t id = 0; id < count; ++id) {
    const std::string& token = vocabulary.tokens[id];
    int32_t type = TypeOf(vocabulary, id);
    bool is_literal = type == kControlToken || type == kUserDefinedToken;
    bytes[id] = is_literal ? token : byte_characters.Decode(token);
  }
  std::unique_ptr<BpeTokenizer> made(new BpeTokenizer(
      vocabulary, bytes, vocabulary.add_bos.value_or(is_llama3)));
  made->pretokenizer_ = std::move(pretokenizer);
  SKV_ASSIGN_OR_RETURN(made->merges_, ReadMergeRules(vocabulary));

  made->byte_ids_.fill(-1);
  for (size_t id = 0; id < count; ++id) {
    int32_t type = TypeOf(vocabulary, id);
    if (type == kUserDefinedToken) {
      made->user_defined_.Add(bytes[id], static_cast<int32_t>(id));
    }
    if (type != kNormalToken) continue;
    if (bytes[id].size() == 1) {
      made->byte_ids_[static_cast<uint8_t>(bytes[id][0])] =
          static_cast<int32_t>(id);
    }
    if (vocabulary.ignore_merges.value_or(is_llama3)) {
      made->whole_words_[made->bytes(id)] = static_cast<int32_t>(id);
    }
  }
  if (std::all_of(made->byte_ids_.begin(), made->byte_ids_.end(),
                  [](int32_t id) { return id < 0; })) {
    return absl::InvalidArgumentError(fmt::format(
        "vocabulary: none of the {} tokens is a single byte", count));
  }
  return made;
}

absl::Status BpeTokenizer::EncodePlain(std::string_view text,
                                       bool /*at_text_start*/,
                                       std::vector<int32_t>& ids) const {
  size_t begin = 0;
  while (auto match = user_defined_.Find(text, begin)) {
    SKV_RETURN_IF_ERROR(
        EncodeWords(text.substr(begin, match->begin - begin), ids));
    ids.push_back(match->id);
    begin = match->end;
  }
  return EncodeWords(text.substr(begin), ids);
}

absl::Status BpeTokenizer::EncodeWords(std::string_view text,
                                       std::vector<int32_t>& ids) const {
  SKV_ASSIGN_OR_RETURN(auto words, pretokenizer_->Split(text));
  std::vector<int32_t> symbols;
  BpeMerges::Workspace workspace;
  for (std::string_view word : words) {
    if (!whole_words_.empty()) {
      auto whole = whole_words_.find(word);
      if (whole != whole_words_.end()) {
        ids.push_back(whole->second);
        continue;
      }
    }
    symbols.clear();
    for (char byte : word) {
      int32_t id = byte_ids_[static_cast<uint8_t>(byte)];
      if (id >= 0) symbols.push_back(id);
    }
    merges_.Apply(symbols, workspace);
    ids.insert(ids.end(), symbols.begin(), symbols.end());
  }
  return absl::OkStatus();
}

}  // namespace sentencekv
