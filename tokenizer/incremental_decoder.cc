#include "tokenizer/incremental_decoder.h"

#include <utility>

#include "tokenizer/utf8.h"

namespace sentencekv {

IncrementalDecoder::IncrementalDecoder(const Tokenizer& tokenizer,
                                       bool render_special, bool at_text_start)
    : tokenizer_(tokenizer),
      render_special_(render_special),
      strip_space_(at_text_start && tokenizer.strips_leading_space()) {}

std::string IncrementalDecoder::Append(int32_t id) {
  std::string bytes = tokenizer_.TokenBytes(id, render_special_);
  if (strip_space_ && !bytes.empty()) {
    strip_space_ = false;
    if (bytes.front() == ' ') bytes.erase(0, 1);
  }
  std::string unread = std::exchange(pending_, "") + bytes;
  std::string text;
  for (std::string_view rest = unread; !rest.empty();) {
    Utf8Step step = NextUtf8(rest);
    if (step.kind == Utf8Kind::kIncomplete) {
      pending_ = rest;
      break;
    }
    text += step.kind == Utf8Kind::kCodePoint ? rest.substr(0, step.size)
                                              : kReplacementCharacter;
    rest.remove_prefix(step.size);
  }
  return text;
}

std::string IncrementalDecoder::Finish() {
  bool is_cut = !std::exchange(pending_, "").empty();
  return is_cut ? std::string(kReplacementCharacter) : "";
}

}  // namespace sentencekv
