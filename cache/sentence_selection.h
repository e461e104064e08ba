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
  // The chosen sentences, in no order; of equal scores the earlier ones.
  // `scores` is [ends.size()]. Valid until the next call.
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
    int64_t left = 0;     // of the budget
    int num_misfits = 0;  // in a row
  };
  // Scores are put into bins, as few of many sentences are taken: those of the
  // highest bins as a whole, and only of the next ones it matters which is
  // better.
  struct Bins {
    uint32_t whole = 0;   // from here on the budget holds all
    uint32_t likely = 0;  // from here on it is likely full
    int64_t left = 0;     // of the budget, without the whole bins
  };

  Bins CountBins(const SelectionLimits& limits, const SentenceSpans& spans,
                 std::span<const float> scores);
  // Lists the sentences of bins first..end-1 that cost something.
  std::span<const int32_t> SentencesIn(std::span<const float> scores,
                                       uint32_t first, uint32_t end);
  // Takes of some sentences the best first. False when there is no use in going
  // on.
  bool TakeBest(std::span<const float> scores,
                std::span<const int32_t> sentences, Taker* taker);
  void Mark(int64_t begin, int64_t end);

  std::vector<int32_t> costs_;       // of the sentences, tokens
  std::vector<int32_t> bin_tokens_;  // costs of the sentences in each bin
  std::vector<int32_t> listed_;
  std::vector<uint64_t> ranks_;  // of those that are compared
  std::vector<int32_t> sentences_;
  std::vector<uint16_t> page_masks_;  // of the whole sequence
};

}  // namespace sentencekv
