// What the decode steps of a sequence have read: counts, and, where a trace is
// asked for, the sentences from which each generated sentence was read.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "cache/sentence_selection.h"

namespace sentencekv {

// Sums over decode steps, layers and KV heads. Tokens that are computed again
// after a preemption are counted again.
struct ReadCounts {
  int64_t steps = 0;             // tokens computed by decode steps
  int64_t heads = 0;             // (step, layer, KV head)
  int64_t tokens_attended = 0;   // over `heads`
  int64_t sentences_chosen = 0;  // over `heads`; not what is read anyway
  // Of those: chosen where the step before chose too, in the same layer and
  // head; and chosen by both.
  int64_t sentences_compared = 0;
  int64_t sentences_repeated = 0;

  ReadCounts& operator+=(const ReadCounts& other);
  // Means; 0 when there is nothing to take one of.
  double TokensPerStep() const;
  // How much of a selection the step before had too, 0 to 1.
  double Overlap() const;
};

// Of all sequences of a policy since the start.
struct ReadTotals {
  ReadCounts counts;
  int64_t sentences_indexed = 0;
  double score_seconds = 0;   // scoring the sentences of decode steps
  double select_seconds = 0;  // choosing among them
  // Heads that do not wait for their choice and yet read it at once.
  int64_t repairs = 0;
};

// What one decode step chose in one layer and KV head.
struct HeadSelection {
  int64_t layer = 0;
  int64_t kv_head = 0;
  SentenceSpans spans;
  std::span<const float> scores;       // [spans.ends.size()], at least 0
  std::span<const int32_t> sentences;  // chosen
  int64_t num_attended = 0;            // tokens, with what is read anyway
};

// A sentence that another was read from.
struct ReadSource {
  int64_t begin = 0;  // positions
  int64_t end = 0;
  double share = 0;          // of the focus, see ReadLog; all: 1
  int64_t times_chosen = 0;  // (step, layer, KV head)
};

// A generated sentence, and what it was read from.
struct ReadSentence {
  int64_t begin = 0;  // positions of its generated tokens
  int64_t end = 0;
  // (step, layer, KV head) that chose sentences; 0: each of its tokens was
  // read from the whole context.
  int64_t num_selections = 0;
  std::vector<ReadSource> sources;  // by falling share
};

// The trace ranks sources by focus. Most heads spread their scores over many
// sentences, and over those near the end in particular; the few that look
// something up give one sentence much. So a score, as a share of all scores of
// its layer and head, weighs by itself: its square is added up. Plain sums put
// the sentence that holds the answer behind half a dozen recent ones (SmolLM2,
// ten documents of 4,000 tokens); squares put it first.
//
// Not thread-safe.
class ReadLog {
 public:
  // `most_sources`: of each generated sentence; 0: no trace.
  ReadLog(int64_t num_layers, int64_t num_kv_heads, int64_t most_sources);

  // Both return what they add to counts(). A step calls one of them for each
  // layer and head, layer by layer.
  ReadCounts AddSelection(const SelectionLimits& limits,
                          const HeadSelection& selection);
  // All of a layer's heads attended to `num_tokens` tokens, which were all.
  ReadCounts AddWhole(int64_t layer, int64_t num_tokens);

  // What was read without it, by a step that did neither.
  void Add(const ReadCounts& added) { counts_ += added; }
  // What such a step chose, a bit for each sentence: for the next AddSelection.
  void SetChosen(int64_t layer, int64_t kv_head,
                 std::span<const uint32_t> chosen);

  const ReadCounts& counts() const { return counts_; }
  // Whether the step before chose a sentence there.
  bool WasChosen(int64_t layer, int64_t kv_head, int32_t sentence) const;

  // What became of the generated tokens: the sentences that ended since the
  // last call. `spans` has all closed sentences, and the tokens there are with
  // the one that the last step gave. With `close`, what is left is a sentence
  // too. REQUIRES: there is a trace.
  std::vector<ReadSentence> TakeSentences(const SentenceSpans& spans,
                                          int64_t num_prompt, bool close);

 private:
  // What one step chose, over layers and heads; by sentence.
  struct Step {
    int64_t position = 0;  // of the token that it gave
    int64_t num_selections = 0;
    std::vector<double> focus;
    std::vector<int32_t> times_chosen;
  };

  void Trace(const SelectionLimits& limits, const HeadSelection& selection);
  ReadSentence Take(const SentenceSpans& spans, int64_t begin, int64_t end);

  const int64_t num_kv_heads_;
  const int64_t most_sources_;
  ReadCounts counts_;
  // [L * G]: a bit for each sentence that the step before chose; none: it
  // attended to everything.
  std::vector<std::vector<uint64_t>> last_;
  std::vector<uint64_t> chosen_;  // kept for its memory
  std::deque<Step> steps_;        // of sentences not taken yet
  int64_t taken_end_ = 0;         // generated tokens before it are taken
};

}  // namespace sentencekv
