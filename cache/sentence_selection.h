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

// Pages of a sequence with the tokens chosen of each.
struct ChosenPages {
  std::vector<int32_t> pages;   // page i has positions i P.., ascending
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
  // The pages of what is always attended to and of the sentences.
  void ListPages(const SelectionLimits& limits, const SentenceSpans& spans,
                 std::span<const int32_t> sentences, ChosenPages* chosen);

 private:
  // After so many in a row that did not fit the rest is not looked at: what is
  // left of the budget is less than a short sentence.
  static constexpr int kMostMisfits = 16;
  struct Taker {
    int64_t left = 0;  // of the budget
    int misfits = 0;   // in a row

    bool wants_more() const { return left > 0 && misfits < kMostMisfits; }
  };

  // Few of many sentences are taken, so scores are not sorted as a whole but
  // put into bins. Returns the lowest bin that is likely wanted.
  uint32_t RankAll(const SelectionLimits& limits, const SentenceSpans& spans,
                   std::span<const float> scores);
  // Takes sentences of bins first..end-1, the best first.
  void TakeBins(const SelectionLimits& limits, const SentenceSpans& spans,
                uint32_t first, uint32_t end, Taker* taker);
  void Mark(int64_t begin, int64_t end);

  std::vector<uint64_t> ranks_;      // of the sentences
  std::vector<int64_t> bin_tokens_;  // tokens of the sentences in each bin
  std::vector<uint64_t> sorted_;     // ranks
  std::vector<int32_t> sentences_;
  std::vector<uint16_t> page_masks_;  // of the whole sequence
};

}  // namespace sentencekv
