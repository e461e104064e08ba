// How a sequence of a length lies in sentences and pages.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kv_layout.h"

namespace sentencekv {

// What a step attends to anyway, in tokens.
inline constexpr int64_t kSinkTokens = 16;
inline constexpr int64_t kRecentTokens = 64;
inline constexpr int64_t kMeanSentence = 24;

// Closed sentences, and an open one behind.
struct TextLayout {
  std::vector<int32_t> ends;
  int64_t num_tokens = 0;  // with the token of the step

  int64_t num_sentences() const { return std::ssize(ends); }
  int64_t num_pages() const {
    return (num_tokens + kPageTokens - 1) / kPageTokens;
  }
  // Whether a page lies on the device as a whole: those of the sink, of recent
  // tokens and of the open sentence do.
  bool IsWhole(int64_t page) const;
  int64_t NumWholePages() const;
};

// Sentences of 16 to 32 tokens, as the seed has them.
TextLayout DrawText(int64_t num_tokens, uint64_t seed);

}  // namespace sentencekv
