// What the `sentence` policy keeps for one sequence.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "cache/device_choosing.h"
#include "cache/head_budgets.h"
#include "cache/kv_policy.h"
#include "cache/lagging_choice.h"
#include "cache/prompt_window.h"
#include "cache/read_log.h"
#include "cache/segmenter.h"
#include "cache/sentence_index.h"
#include "cache/sentence_selection.h"
#include "cache/sentence_settings.h"

namespace sentencekv {

class SentenceState final : public PolicyState {
 public:
  SentenceState(const ModelShape& shape,
                std::shared_ptr<const SentenceMarks> marks,
                const SentenceSettings& settings)
      : segmenter(std::move(marks), SegmenterOptions()),
        index(shape, settings.index_kind),
        lagging(shape),
        head_budgets(shape),
        reads(shape.num_layers, shape.num_kv_heads, settings.trace_sources),
        settings(settings),
        shape_(shape) {}

  const ReadCounts* read_counts() const override { return &reads.counts(); }
  SentenceIndexSize index_size() const override;
  std::vector<ReadSentence> TakeReads(int64_t num_prompt, int64_t num_tokens,
                                      bool close) override {
    return reads.TakeSentences({segmenter.ends(), num_tokens}, num_prompt,
                               close);
  }

  // A step's tokens are about to be computed.
  void Append(std::span<const int32_t> tokens);
  // Makes room for the entries of all closed sentences.
  absl::Status ReserveEntries(Backend& backend);
  // Appends the sentences that have no entry yet in `layer`; `pages` has those
  // of positions missing_begin..missing_end-1.
  void AppendMissing(int64_t layer, const int32_t* pages,
                     std::vector<SentenceIndexItem>* items) const;
  // Closed sentences that have no entry yet.
  int64_t num_missing() const {
    return static_cast<int64_t>(segmenter.ends().size()) - num_indexed_;
  }
  // Their positions. REQUIRES: num_missing() > 0.
  int64_t missing_begin() const {
    return SentenceSpans{segmenter.ends(), 0}.begin(num_indexed_);
  }
  int64_t missing_end() const { return segmenter.ends().back(); }
  // The sentences that have entries, for a row that makes the sequence
  // num_tokens long.
  SentenceSpans Spans(int64_t num_tokens) const {
    return {segmenter.ends().first(static_cast<size_t>(num_indexed_)),
            num_tokens};
  }

  // Keeps the queries of a step's rows that are among the last of the prompt.
  // `rows` begins with the row at `position`, [num_rows, (H + 2 G) D], device.
  absl::Status KeepPromptQueries(Backend& backend, int64_t layer,
                                 const float* rows, int64_t num_rows,
                                 int64_t position, int64_t num_prompt);
  // Makes a layer's prior from them, once K of the whole prompt and the entries
  // of its closed sentences are written, and looks at what the index says of
  // the last one, [H D], device.
  absl::Status MakePrior(KvMemory& memory, int64_t layer,
                         CachedSequence& sequence, const float* last_query,
                         float scale);

  // Sum of the queries of the open sentence, [H D], device; null without a
  // blend.
  float* query_sum(int64_t layer) const;
  // Makes room for them. A row is about to be scored.
  absl::Status PrepareScoring(Backend& backend);
  int64_t num_summed() const { return num_summed_; }
  // Of the settings, with the head's own budget.
  SelectionLimits LimitsOf(int64_t layer, int64_t kv_head) const {
    return head_budgets.LimitsOf(settings.limits, layer, kv_head);
  }
  // How much the prior counts for the next token.
  float PriorWeight(const CachedSequence& sequence) const;
  // Raises the scores of what the step before has read.
  void AddReuseBonus(int64_t layer, int64_t kv_head,
                     std::span<float> scores) const;

  Segmenter segmenter;
  SentenceIndex index;
  LaggingChoice lagging;  // where settings.strict is not
  HeadBudgets head_budgets;
  ReadLog reads;
  ChoosingState choosing;
  const SentenceSettings settings;

 private:
  // The next heads of head_budgets: all of a layer.
  absl::Status CompareWithIndex(Backend& backend, int64_t layer,
                                const SentenceSpans& spans,
                                const float* last_query, float scale);

  const ModelShape shape_;
  int64_t num_indexed_ = 0;            // sentences with entries
  int64_t num_summed_ = 0;             // queries in query_sum
  bool has_scored_ = false;            // in the step that runs
  Buffer query_sums_;                  // [L, H D] f32
  std::vector<PromptWindow> windows_;  // [L]: empty once the prior is made
};

}  // namespace sentencekv
