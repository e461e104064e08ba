// What a step reads when it does not wait for what it chooses: the choice of
// the step before, whose K and V have been copied since. A head reads its own
// choice at once where the query has moved too far for the old one to stand.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "cache/kv_policy.h"
#include "kernels/backend.h"

namespace sentencekv {

// Cosine of a head's queries, this step's and the last one's, below which the
// old choice is given up. On SmolLM2 that is so in 4 of 10 (layer, head, step),
// and keeps most of the answers that reading late alone loses.
inline constexpr float kLeastLagCosine = 0.85f;

// Of one sequence. Engine thread only.
class LaggingChoice {
 public:
  explicit LaggingChoice(const ModelShape& shape) : shape_(shape) {}

  // A layer's queries of a step's row, [H, D] on the device. Each step once a
  // layer, in order, before Read.
  absl::Status SetQuery(Backend& backend, int64_t layer, const float* query);
  // `chosen` is what the row chooses in a KV head; what it reads is returned:
  // that, or what the row before chose. *num_repairs counts the heads that read
  // their own although there was an older one. Valid until the next call for
  // the head.
  std::span<const int32_t> Read(int64_t layer, int64_t kv_head,
                                std::span<const int32_t> chosen,
                                int64_t* num_repairs);
  // What the last Read was given: the next step will read it if its query has
  // not moved.
  std::span<const int32_t> Next(int64_t layer, int64_t kv_head) const {
    return heads_[HeadIndex(layer, kv_head)].next;
  }

 private:
  struct Head {
    std::vector<int32_t> next;
    std::vector<int32_t> now;
    bool has_moved = true;
  };

  size_t HeadIndex(int64_t layer, int64_t kv_head) const {
    return static_cast<size_t>(layer * shape_.num_kv_heads + kv_head);
  }

  const ModelShape shape_;
  std::vector<std::vector<float>> queries_;  // [L] of [H, D]: the last ones
  std::vector<Head> heads_;                  // [L * G]
};

}  // namespace sentencekv
