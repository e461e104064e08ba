// Rows of the policy `sentence` that choose on the host: on the CPU all of
// them, and those that cache/device_choosing.h does not take. The host has the
// scores of each layer before it goes on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "cache/kv_policy.h"
#include "cache/sentence_selection.h"

namespace sentencekv {

class SentenceState;

// Of one policy. Engine thread only.
class HostChoosing {
 public:
  explicit HostChoosing(const ModelShape& shape) : shape_(shape) {}

  // In each layer: Begin, the rows, Attend. What is taken must stay until then.
  void Begin() { rows_.clear(); }
  void Take(SentenceState& state, const StepSequence& step,
            const SentenceSpans& spans) {
    rows_.push_back({&state, &step, spans, 0});
  }
  // Adds what the rows have read to their logs and to *totals.
  absl::Status Attend(KvMemory& memory, const AttendInput& input,
                      ReadTotals* totals);

 private:
  // One sequence's row, and the tokens it attends to in each KV head.
  struct Row {
    SentenceState* state = nullptr;
    const StepSequence* step = nullptr;
    SentenceSpans spans;
    size_t first_item = 0;  // of its G items
  };

  absl::Status Score(Backend& backend, const AttendInput& input);
  void Select(int64_t layer, ReadTotals* totals);
  // Has what the next step will read copied, where steps do not wait for it.
  absl::Status PrefetchNext(KvMemory& memory, int64_t layer);

  const ModelShape shape_;
  std::vector<Row> rows_;
  // Of one call of Attend; kept for their memory.
  std::vector<SentenceScoreItem> score_items_;
  std::vector<float> scores_;
  SentenceSelector selector_;
  std::vector<ChosenPages> chosen_;  // [rows * G]
  ChosenPages next_;
  std::vector<ChosenRow> chosen_rows_;
};

}  // namespace sentencekv
