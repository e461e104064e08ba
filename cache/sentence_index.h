// The sentence index of one sequence: an entry for each closed sentence, in
// every layer and KV head, on the device. kernels/sentence_block.h has the
// layout of entries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "cache/kv_policy.h"
#include "kernels/backend.h"
#include "kernels/buffer.h"

namespace sentencekv {

// Memory of the same number of units, each of the same size, for every layer
// and KV head. Grows by an eighth, so that it costs little per unit and little
// lies idle. Engine thread only.
class PerHeadMemory {
 public:
  PerHeadMemory(const ModelShape& shape, int64_t unit_bytes,
                int64_t least_units)
      : shape_(shape), unit_bytes_(unit_bytes), least_units_(least_units) {}

  // Makes room for so many units in each head; what was written stays, the rest
  // is 0. Operations issued so far use the old memory, later ones the new: the
  // host waits for neither.
  absl::Status Reserve(Backend& backend, int64_t num_units);
  // Those of the next KV head lie stride() bytes further.
  std::byte* at(int64_t layer, int64_t kv_head) const {
    return memory_.as<std::byte>() +
           (layer * shape_.num_kv_heads + kv_head) * stride();
  }
  int64_t stride() const { return capacity_ * unit_bytes_; }
  int64_t size_bytes() const {
    return static_cast<int64_t>(memory_.size_bytes());
  }

 private:
  const ModelShape shape_;
  const int64_t unit_bytes_;
  const int64_t least_units_;
  int64_t capacity_ = 0;  // units of each head
  Buffer memory_;         // [L][G][capacity_] units
};

// Engine thread only.
class SentenceIndex {
 public:
  SentenceIndex(const ModelShape& shape, SentenceIndexKind kind);

  SentenceIndexKind kind() const { return kind_; }
  // Makes room for entries 0..num_entries-1, of the tokens at positions below
  // num_tokens; those written stay.
  absl::Status Reserve(Backend& backend, int64_t num_entries,
                       int64_t num_tokens);
  const PerHeadMemory& blocks() const { return blocks_; }
  // Null where the kind has none.
  std::byte* signs(int64_t layer, int64_t kv_head) const {
    return kind_ == SentenceIndexKind::kSign ? signs_.at(layer, kv_head)
                                             : nullptr;
  }
  int64_t sign_stride() const { return signs_.stride(); }
  int64_t size_bytes() const {
    return blocks_.size_bytes() + signs_.size_bytes();
  }

  // What the last queries of the prompt attended to, for each of the entries
  // there were: [layer][KV head], as added to scores. Empty: none was given.
  void SetPrior(int64_t layer, int64_t kv_head, std::vector<float> prior);
  // Null, or [num_entries]: entries after the prompt's have 0.
  const float* prior(int64_t layer, int64_t kv_head, int64_t num_entries);

 private:
  const ModelShape shape_;
  const SentenceIndexKind kind_;
  PerHeadMemory blocks_;
  PerHeadMemory signs_;                     // strips
  std::vector<std::vector<float>> priors_;  // [L * G]
};

}  // namespace sentencekv
