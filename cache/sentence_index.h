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

// Engine thread only.
class SentenceIndex {
 public:
  explicit SentenceIndex(const ModelShape& shape) : shape_(shape) {}

  // Makes room for entries 0..num_entries-1; those written stay. Grows by
  // doubling, so that it costs little per entry.
  absl::Status Reserve(Backend& backend, int64_t num_entries);

  // Blocks of a layer and KV head; those of the next head lie head_stride()
  // bytes further.
  std::byte* blocks(int64_t layer, int64_t kv_head) const;
  int64_t head_stride() const;

  // What the last queries of the prompt attended to, for each of the entries
  // there were: [layer][KV head], as added to scores. Empty: none was given.
  void SetPrior(int64_t layer, int64_t kv_head, std::vector<float> prior);
  // Null, or [num_entries]: entries after the prompt's have 0.
  const float* prior(int64_t layer, int64_t kv_head, int64_t num_entries);

 private:
  const ModelShape shape_;
  Buffer memory_;  // [L][G][capacity_blocks_] blocks
  int64_t capacity_blocks_ = 0;
  std::vector<std::vector<float>> priors_;  // [L * G]
};

}  // namespace sentencekv
