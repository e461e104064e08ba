// Rows of the policy `sentence` that choose on the device: their steps do not
// wait for the host in any layer. docs/sentences.md.
//
// A sequence's first row that chooses says where all its rows do: on the device
// where there is one that can, unless a trace of scores is wanted or steps read
// what the step before chose. Should a later row find no memory, the host takes
// the sequence over for good.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/kv_policy.h"
#include "cache/sentence_selection.h"
#include "kernels/buffer.h"
#include "kernels/sentence_chooser.h"

namespace sentencekv {

class SentenceState;

// How many sentences of a sequence have each length.
class SentenceLengths {
 public:
  void Add(int64_t num_tokens);
  // Most sentences of `budget` tokens together.
  int64_t MostWithin(int64_t budget) const;

 private:
  // As long as the last, or longer.
  std::array<int64_t, 64> counts_ = {};
};

// Most pages that a row's choice can have, whatever the scores.
int64_t MostChosenPages(const SelectionLimits& limits,
                        const SentenceSpans& spans,
                        const SentenceLengths& lengths);

// What the host keeps of a sequence for it.
struct ChoosingState {
  // Null: the host chooses, or no row has yet.
  std::unique_ptr<ChoosingSequence> there;
  bool host_chooses = false;  // for good
  SentenceLengths lengths;    // of the ends that the device knows
  // [L * G]: most pages of the sentences that a head chooses of those.
  std::vector<int64_t> sentence_pages;
  int64_t num_steps = 0;  // that have chosen there
  // [L][G][num_prior] f32, as SentenceIndex::prior; null without.
  Buffer priors;
  int64_t num_prior = 0;
};

// Of one policy. Engine thread only.
class DeviceChoosing {
 public:
  explicit DeviceChoosing(const ModelShape& shape) : shape_(shape) {}

  void BeginStep() { rows_.clear(); }
  // Whether a row of the step chooses on the device. Once a step for each row.
  absl::StatusOr<bool> Take(KvMemory& memory, SentenceState& state,
                            const StepSequence& step,
                            const SentenceSpans& spans);
  // Where there is room for it: what the rows taken want of `memory` in all
  // layers, as KvPolicy::PrepareStep has it. False: there is none.
  absl::StatusOr<bool> BringLastPages(KvMemory& memory,
                                      std::vector<const int32_t*>* written);
  // A layer of the rows taken; all layers in order. Brings what it wants, or
  // else BringLastPages has for all.
  absl::Status Attend(KvMemory& memory, const AttendInput& input);
  absl::Status AttendToBrought(KvMemory& memory, const AttendInput& input);
  // Adds what the rows have read to their logs and to *totals, when the host
  // has waited for the step. kInternal: the step's results are not to be used.
  absl::Status EndStep(KvMemory& memory, ReadTotals* totals);

 private:
  struct Row {
    SentenceState* state = nullptr;
    CachedSequence* sequence = nullptr;
    ChoosingRowParams params;
  };

  // The device is told of sentences that are new.
  absl::Status AddEnds(SentenceState& state, const SentenceSpans& spans);
  absl::Status Prepare(KvMemory& memory, SentenceState& state,
                       const StepSequence& step, const SentenceSpans& spans);
  absl::Status SendPriors(Backend& backend, SentenceState& state,
                          int64_t num_sentences);
  // The host chooses from now on, as if it always had.
  absl::Status GiveToHost(SentenceState& state);
  std::vector<int32_t> BudgetsOf(const SentenceState& state) const;  // [L * G]
  ChoosingRowParams ParamsOf(const SentenceState& state,
                             const StepSequence& step,
                             const SentenceSpans& spans) const;

  // The chooser is told of the rows.
  absl::Status BeginRows(KvMemory& memory);
  // A layer of rows begin..end-1.
  absl::Status AttendRows(KvMemory& memory, const AttendInput& input,
                          int64_t begin, int64_t end);
  absl::Status EndLayer(KvMemory& memory, int64_t layer);

  const ModelShape shape_;
  std::vector<Row> rows_;  // of the step
};

}  // namespace sentencekv
