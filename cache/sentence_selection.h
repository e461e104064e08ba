// Which tokens a decode step attends to in one KV head, given the scores of the
// sentences.
//
// Always: the sink (the first tokens), the recent tokens, and the whole open
// sentence. Besides, whole sentences by falling score until they hold `budget`
// tokens; one that no longer fits is skipped and smaller ones are tried. Tokens
// that are attended to anyway do not count.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace sentencekv {

struct SelectionLimits {
  int64_t budget = 0;  // tau, tokens
  int64_t num_sink = 16;
  int64_t num_recent = 64;  // the row's own token is one of them
  int64_t num_dense = 0;    // see DenseTokens

  // Contexts up to here are attended to as a whole.
  int64_t DenseTokens() const {
    return std::max(num_dense, budget + num_sink + num_recent);
  }
};

// The closed sentences of a sequence, and its length with the row's token.
struct SentenceSpans {
  std::span<const int32_t> ends;  // sentence i is [ends[i - 1], ends[i])
  int64_t num_tokens = 0;

  int64_t begin(int64_t sentence) const {
    return sentence == 0 ? 0 : ends[static_cast<size_t>(sentence - 1)];
  }
  int64_t end(int64_t sentence) const {
    return ends[static_cast<size_t>(sentence)];
  }
};

// Pages of a sequence's table with the tokens chosen of each.
struct ChosenPages {
  std::vector<int32_t> pages;   // ids, in order of position
  std::vector<uint16_t> masks;  // bit t: token t; never 0
  int64_t num_tokens = 0;
};

// Keeps memory between calls; one thread.
class SentenceSelector {
 public:
  // Sentences by falling score, ties by position. `scores` is [ends.size()].
  // Valid until the next call.
  std::span<const int32_t> ChooseSentences(const SelectionLimits& limits,
                                           const SentenceSpans& spans,
                                           std::span<const float> scores);
  // Appends to `chosen` the pages of what is always attended to and of the
  // sentences; `page_table` is the sequence's.
  void AppendPages(const SelectionLimits& limits, const SentenceSpans& spans,
                   std::span<const int32_t> sentences,
                   std::span<const int32_t> page_table, ChosenPages* chosen);

 private:
  void Mark(int64_t begin, int64_t end);

  std::vector<int32_t> heap_;
  std::vector<int32_t> sentences_;
  std::vector<uint16_t> page_masks_;  // of the whole sequence
};

}  // namespace sentencekv
