// What the `sentence` policy keeps for one sequence.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "cache/kv_policy.h"
#include "cache/segmenter.h"
#include "cache/sentence_index.h"
#include "cache/sentence_selection.h"

namespace sentencekv {

// Queries of a prompt whose attention is remembered as the prior.
inline constexpr int64_t kPriorQueries = 32;

class SentenceState final : public PolicyState {
 public:
  SentenceState(const ModelShape& shape,
                std::shared_ptr<const SentenceMarks> marks,
                const SelectionLimits& limits)
      : segmenter(std::move(marks), SegmenterOptions()),
        index(shape),
        limits(limits),
        shape_(shape) {}

  // Makes room for the entries of all closed sentences.
  absl::Status ReserveEntries(Backend& backend);
  // Appends the sentences that have no entry yet in `layer`.
  void AppendMissing(int64_t layer, std::span<const int32_t> pages,
                     std::vector<SentenceIndexItem>* items) const;
  // Every layer has the entries of all closed sentences.
  void MarkIndexed() {
    num_indexed = static_cast<int64_t>(segmenter.ends().size());
  }
  // The sentences that have entries, for a row that makes the sequence
  // num_tokens long.
  SentenceSpans Spans(int64_t num_tokens) const {
    return {segmenter.ends().first(static_cast<size_t>(num_indexed)),
            num_tokens};
  }

  // Keeps the queries of a step's rows that are among the last of the prompt.
  // `rows` begins with the row at `position`, [num_rows, (H + 2 G) D], device.
  absl::Status KeepPromptQueries(Backend& backend, int64_t layer,
                                 const float* rows, int64_t num_rows,
                                 int64_t position, int64_t num_prompt);
  // Makes a layer's prior from them, once K of the whole prompt is written.
  absl::Status MakePrior(Backend& backend, int64_t layer, const KvLayerView& kv,
                         const CachedSequence& sequence, float scale);

  Segmenter segmenter;
  SentenceIndex index;
  const SelectionLimits limits;
  int64_t num_indexed = 0;  // sentences with entries

 private:
  const ModelShape shape_;
  // [L] of [queries, H, D]: gone once the prior is made.
  std::vector<std::vector<float>> prompt_queries_;
};

}  // namespace sentencekv
