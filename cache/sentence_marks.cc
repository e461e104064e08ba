#include "cache/sentence_marks.h"

#include <algorithm>

#include "tokenizer/utf8.h"

namespace sentencekv {
namespace {

bool IsStop(const Tokenizer& tokenizer, int32_t token) {
  auto stops = tokenizer.stop_ids();
  return std::find(stops.begin(), stops.end(), token) != stops.end();
}

// The symbols of valid UTF-8.
std::string Symbols(std::string_view text) {
  std::string symbols;
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    const uint32_t code_point = DecodeUtf8(text.substr(0, step.size));
    symbols.push_back(static_cast<char>(SymbolOf(code_point)));
    text.remove_prefix(step.size);
  }
  return symbols;
}

}  // namespace

SentenceMarks SentenceMarks::Build(const Tokenizer& tokenizer) {
  SentenceMarks marks;
  marks.begins_.push_back(0);
  for (int32_t token = 0; token < tokenizer.vocab_size(); ++token) {
    marks.Add(tokenizer, token);
  }
  return marks;
}

void SentenceMarks::Add(const Tokenizer& tokenizer, int32_t token) {
  TokenRole role = TokenRole::kText;
  if (tokenizer.is_control(token)) {
    role = IsStop(tokenizer, token) ? TokenRole::kTurnCloser
                                    : TokenRole::kTurnOpener;
  } else {
    const std::string bytes = tokenizer.TokenBytes(token);
    if (IsValidUtf8(bytes)) {
      symbols_ += Symbols(bytes);
    } else {
      role = TokenRole::kFragment;
      symbols_ += bytes;
    }
  }
  roles_.push_back(role);
  begins_.push_back(symbols_.size());
}

}  // namespace sentencekv
