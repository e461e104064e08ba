// sentence-paper in one layer of one sequence: the queries at the end of the
// prompt, what is kept because of them, and the sentences seen so far.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "cache/kv_policy.h"
#include "cache/page_pool.h"
#include "cache/paper_selection.h"
#include "cache/prompt_window.h"
#include "kernels/backend.h"

namespace sentencekv {

static_assert(kPaperWindow == kPromptWindow);

// What a request asked for.
struct PaperBudget {
  int64_t attended = 0;  // tau: tokens that a decode step reads
  int64_t kept = 0;      // int(r tau): tokens that are kept of a prompt
};

// Where its K is, for the length of a step.
struct PaperLayerView {
  KvMemory& memory;
  int64_t layer = 0;
  CachedSequence& sequence;
  float scale = 0;
};

// Rows must come in the order of their positions, each once.
class PaperLayer {
 public:
  PaperLayer(const ModelShape& shape, const PaperBudget& budget,
             int64_t num_prompt)
      : shape_(shape), budget_(budget), num_prompt_(num_prompt) {}

  // The query of a prompt token, [H, D] on the device; the last 32 matter.
  absl::Status AddPromptQuery(Backend& backend, const float* query,
                              int64_t position) {
    return window_.Add(backend, shape_, query, position, num_prompt_);
  }
  // Once K of the whole prompt is written: chooses what is kept. `ends` are the
  // positions of the prompt at which sentences end, ascending.
  absl::Status KeepPrompt(const PaperLayerView& view,
                          std::span<const int32_t> ends);
  // A generated token's query, [H, D] on the device: what each KV head reads,
  // positions ascending, [G].
  absl::Status Decode(const PaperLayerView& view, const float* query,
                      int64_t position, bool ends_sentence,
                      std::vector<std::vector<int32_t>>* selected);

 private:
  absl::Status ChooseKept(const PaperLayerView& view);
  absl::Status AddPromptSentences(const PaperLayerView& view, int64_t kv_head,
                                  std::span<const int32_t> bounds);
  absl::Status AddGeneratedSentence(const PaperLayerView& view,
                                    int64_t position);
  // Adds a query to those of the open sentence.
  absl::Status AddQuery(Backend& backend, const float* query);

  const ModelShape shape_;
  const PaperBudget budget_;
  const int64_t num_prompt_;
  PromptWindow window_;            // until the prompt is there
  std::vector<PaperIndex> heads_;  // [G]
  int64_t longest_listed_ = 0;
  // Of the sentence that is being generated: its first position, the sum of its
  // queries over the query heads of each group, [G, D], and their number.
  int64_t open_begin_ = 0;
  std::vector<float> query_sum_;
  int64_t num_queries_ = 0;
};

}  // namespace sentencekv
