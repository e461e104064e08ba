// What a request's generated tokens become: text increments, and the decision
// to stop.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/request.h"
#include "engine/stop_matcher.h"
#include "tokenizer/incremental_decoder.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {

// Text never splits a code point and never shows a part of a stop string. A
// token that stops the text adds nothing to it. One per request; not
// thread-safe.
class Answer {
 public:
  // Both are borrowed. `max_generated`: tokens that the answer may have, at
  // least 1.
  Answer(const GenerateRequest& request, const Tokenizer& tokenizer,
         int64_t max_generated);

  // Stop tokens that must not come as the next token (min_tokens).
  std::span<const int32_t> forbidden() const;
  int64_t num_generated() const { return num_generated_; }

  // Adds the next token and the text it completes to *event. When the answer
  // ends with it: the reason, and what matched.
  std::optional<Finish> Append(GeneratedToken token, StreamEvent* event);
  // Adds the text that was held back. The answer is over: after a match there
  // is none.
  void Close(StreamEvent* event);

 private:
  // Sends text through the stop strings; true when one is complete.
  bool Write(std::string_view text, StreamEvent* event);

  const GenerateRequest& request_;
  const int64_t max_generated_;
  std::vector<int32_t> stop_ids_;
  IncrementalDecoder decoder_;
  StopMatcher matcher_;
  std::string echo_;  // prompt text that the first event will carry
  std::optional<std::string> matched_;
  int64_t num_generated_ = 0;
};

}  // namespace sentencekv
