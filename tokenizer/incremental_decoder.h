// Token ids to text, a token at a time, without ever emitting half a code
// point.
#pragma once

#include <cstdint>
#include <string>

#include "tokenizer/tokenizer.h"

namespace sentencekv {

// One per generated text; not thread-safe; borrows the tokenizer.
class IncrementalDecoder {
 public:
  // `render_special`: control tokens appear in the text.
  // `at_text_start`: the first token begins a text (see strips_leading_space).
  explicit IncrementalDecoder(const Tokenizer& tokenizer,
                              bool render_special = false,
                              bool at_text_start = false);

  // The text that `id` completes: whole code points only, so possibly "".
  // Bytes that can no longer become valid UTF-8 come out as U+FFFD.
  std::string Append(int32_t id);

  // What is left at the end, an incomplete sequence as U+FFFD.
  std::string Finish();

 private:
  const Tokenizer& tokenizer_;
  bool render_special_;
  bool strip_space_;
  std::string pending_;  // an incomplete UTF-8 sequence, at most 3 bytes
};

}  // namespace sentencekv
