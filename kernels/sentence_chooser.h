// Rows of decode steps that choose what they attend to on the device: scores,
// choice, K and V from host memory, and attention follow one another there, and
// the host waits for none of them. docs/cuda.md.
//
// A step: BeginStep with its rows, Attend for each layer, EndStep; when the
// host has waited (Backend::CopyToHost or Synchronize), counts. Attend and
// EndStep are operations, for Backend::RunStep too. The rules of
// Backend hold: one thread, operations in issue order, host memory is read
// before a method returns. A step that has failed is not gone on with, and what
// the device has of its sequences is not used again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/kv_layout.h"
#include "kernels/sentence_block.h"

namespace sentencekv {

// Room, for every sequence and step.
struct ChoosingRoom {
  KvLayout pool;  // of the pages in host memory
  int64_t most_rows = 0;
  int64_t most_sentences = 0;  // of a sequence, with entries
  int64_t most_pages = 0;      // of a sequence
  int64_t most_slots = 0;      // pages of one layer and KV head
};

// What the device has of one sequence, beside K and V and the entries. Each
// layer and KV head has slots, places for K and V of a page. Must not outlive
// its chooser.
class ChoosingSequence {
 public:
  virtual ~ChoosingSequence() = default;

  // Tokens that each head may choose, [L][G]. Once, before the first step.
  virtual absl::Status SetBudgets(std::span<const int32_t> budgets) = 0;
  // Of each head, [L][G].
  virtual std::span<const int32_t> num_slots() const = 0;
  // So many further slots of each head, [L][G], and a run of
  // ChoosingLayer::frames for each, in the same order.
  virtual absl::Status AddSlots(std::span<const int32_t> counts,
                                std::span<const int32_t> runs) = 0;
  virtual int64_t num_ends() const = 0;
  // Ends of further sentences; the first begins at position 0.
  virtual absl::Status AddEnds(std::span<const int32_t> ends) = 0;
  // Numbers in the pool of the sequence's pages first_page, ...
  virtual absl::Status SetPages(int64_t first_page,
                                std::span<const int32_t> pages) = 0;
  // The one page of a layer that a frame has as a whole, of all KV heads. It is
  // read there; all others are read from slots.
  virtual absl::Status SetWholePage(int64_t layer, int32_t page,
                                    int32_t frame) = 0;
  // The sentences that the last step chose, a bit for each. The host waits.
  virtual absl::StatusOr<std::vector<uint32_t>> ReadChoice(int64_t layer,
                                                           int64_t kv_head) = 0;
};

// One row of a step, for all layers.
struct ChoosingRowParams {
  ChoosingSequence* sequence = nullptr;  // each once a step
  int64_t row = 0;                       // in the step's tensors
  int64_t num_tokens = 0;                // with the row's own
  int64_t num_sentences = 0;             // that have entries; at least 1

  // What its sentences are scored by, as SentenceScoreItem has it, but in
  // device memory that stays until the step is done. Of layer 0 and KV head 0;
  // those of layer l and KV head g lie (l G + g) strides, in bytes, behind.
  SentenceIndexKind kind = SentenceIndexKind::kMean;
  const std::byte* blocks = nullptr;
  int64_t block_stride = 0;
  const std::byte* signs = nullptr;
  int64_t sign_stride = 0;
  // Tokens, for a head with the budget below; for others so many more or fewer
  // as their budgets have.
  int64_t num_refined = 0;
  const float* prior = nullptr;  // [L, G, num_prior] or null
  int64_t num_prior = 0;         // entries behind these have 0
  float prior_weight = 1;
  float* query_sums = nullptr;  // [L, H, D] or null
  int64_t num_summed = 0;
  float blend = 0;

  // What is chosen by the scores, as cache/sentence_selection.h says.
  int64_t budget = 0;  // the request's
  int64_t num_sink = 0;
  int64_t num_recent = 0;
  float reuse_factor = 1;  // of scores of what the step before chose
  // Pages that a KV head may choose at most: no more than there are slots.
  int64_t most_chosen = 0;
};

// A layer of the step, for some of its rows that follow one another.
struct ChoosingLayer {
  int64_t layer = 0;
  const float* qkv = nullptr;  // [T, (H + 2 G) D], q turned
  float* out = nullptr;        // [T, H D]
  int64_t num_heads = 0;       // H
  float scale = 0;
  KvLayerView pool;    // in host memory
  KvLayerView frames;  // is_per_head
  int64_t first_row = 0;
  int64_t num_rows = 0;
};

// Of a row, over layers and KV heads.
struct ChoosingCounts {
  int64_t sentences = 0;  // chosen for the budget
  int64_t repeated = 0;   // of those: chosen by the step before too
  int64_t tokens = 0;     // attended to
  int64_t hits = 0;       // pages that slots had
  int64_t misses = 0;
  int64_t evictions = 0;  // pages that made room for others in slots
  int64_t bytes = 0;      // fetched
  // Something did not fit after all: the row's results are not to be used.
  bool has_failed = false;
};

class SentenceChooser {
 public:
  virtual ~SentenceChooser() = default;

  const ChoosingRoom& room() const { return room_; }
  // One that has no slots yet. kResourceExhausted without memory.
  virtual absl::StatusOr<std::unique_ptr<ChoosingSequence>> NewSequence() = 0;

  // REQUIRES: at least 1 row, no more than there is room for.
  virtual absl::Status BeginStep(std::span<const ChoosingRowParams> rows) = 0;
  virtual absl::Status Attend(const ChoosingLayer& layer) = 0;
  virtual absl::Status EndStep() = 0;
  // Of a row of the step, once the host has waited.
  virtual ChoosingCounts counts(int64_t row) const = 0;

 protected:
  explicit SentenceChooser(const ChoosingRoom& room) : room_(room) {}

 private:
  const ChoosingRoom room_;
};

}  // namespace sentencekv
