// What the tokens of a vocabulary say to sentence segmentation.
//
// Ends of sentences are found in decoded text, never by token ids: a byte-level
// BPE vocabulary writes a full stop in hundreds of tokens (".\n", ").", "...").
// So each token's bytes are read once, when the vocabulary is loaded, and kept
// as the symbols of its code points.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cache/text_symbols.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {

enum class TokenRole : uint8_t {
  kText,
  kFragment,    // text that begins or ends inside a code point, or is broken
  kTurnOpener,  // a control token that begins something: a BOS, a header
  kTurnCloser,  // a control token at which generation stops
};

struct TokenMarks {
  TokenRole role = TokenRole::kText;
  // kText: one TextSymbol a code point, none for a token without text.
  // kFragment: the token's bytes. Else empty.
  std::string_view symbols;
};

// Immutable: shared by all sequences, any thread. About one byte a character
// of the vocabulary, and nine a token.
class SentenceMarks {
 public:
  static SentenceMarks Build(const Tokenizer& tokenizer);

  // The view lives as long as this object. A token outside the vocabulary (a
  // model's padding) has no text.
  TokenMarks Of(int32_t token) const {
    if (token < 0 || static_cast<size_t>(token) >= roles_.size()) return {};
    const size_t begin = begins_[token];
    const size_t size = begins_[token + 1] - begin;
    return {roles_[token], std::string_view(symbols_).substr(begin, size)};
  }

 private:
  SentenceMarks() = default;
  void Add(const Tokenizer& tokenizer, int32_t token);

  std::vector<TokenRole> roles_;  // [vocab_size]
  std::vector<size_t> begins_;    // [vocab_size + 1], in symbols_
  std::string symbols_;
};

}  // namespace sentencekv
