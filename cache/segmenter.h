// The sentences of a token sequence: the units in which the cache chooses what
// to attend to.
//
// docs/sentences.md says what a sentence is. The ends found depend on the
// tokens up to them and a little further (one token, or the white space that
// follows), never on how the tokens arrive, and are never taken back: so the
// ends of a prefix are the first ends of every continuation.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cache/sentence_marks.h"
#include "cache/sentence_scanner.h"

namespace sentencekv {

struct SegmenterOptions {
  // A shorter sentence is joined to the next one, unless a paragraph or turn
  // ends with it.
  int64_t min_tokens = 8;
  // A longer one is split.
  int64_t max_tokens = 32;
};

// One per sequence; copyable; one thread. Positions are tokens from 0.
class Segmenter {
 public:
  // REQUIRES: 1 <= min_tokens <= max_tokens.
  Segmenter(std::shared_ptr<const SentenceMarks> marks,
            SegmenterOptions options);

  // Takes the next tokens of the sequence; sentences that end go to ends().
  // Tokens outside the vocabulary count as ones without text. Afterwards the
  // open sentence has at most max_tokens tokens.
  void Append(std::span<const int32_t> tokens);

  // One past the last token of each closed sentence, ascending: sentence i is
  // [i ? ends[i - 1] : 0, ends[i]). Valid until the next Append.
  std::span<const int32_t> ends() const { return ends_; }
  int64_t num_tokens() const { return num_tokens_; }  // appended so far
  // The first token of the open sentence; num_tokens() when it is empty.
  int64_t open_begin() const { return ends_.empty() ? 0 : ends_.back(); }

 private:
  void Take(int32_t token);
  // A sentence or paragraph ends after `end` tokens of the sequence.
  void CloseIfLongEnough(int64_t end, bool is_paragraph);
  void SplitIfTooLong();
  void Close(int64_t end);

  std::shared_ptr<const SentenceMarks> marks_;
  SegmenterOptions options_;
  SentenceScanner scanner_;
  std::vector<int32_t> ends_;
  int64_t num_tokens_ = 0;
  // ranks_[i]: how well the open sentence can be split into its first i + 1
  // tokens and the rest.
  std::vector<SplitRank> ranks_;
};

}  // namespace sentencekv
