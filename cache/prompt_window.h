// The queries of a prompt's last tokens in one layer, and the attention that
// they give to the prompt.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "cache/kv_policy.h"
#include "kernels/backend.h"

namespace sentencekv {

// Tokens of a prompt whose queries matter (N of SentenceKV, section 4.1).
inline constexpr int64_t kPromptWindow = 32;

// Engine thread only.
class PromptWindow {
 public:
  // The query of the prompt's token at `position`, [H, D], device; rows come in
  // order, each once. Those before the window are left out.
  absl::Status Add(Backend& backend, const ModelShape& shape,
                   const float* query, int64_t position, int64_t num_prompt);
  // Once K of the whole prompt is written: the sum over the window's queries of
  // what they attend to, [H, num_prompt]. Forgets the queries. *num_queries is
  // how many there were.
  absl::Status TakeMass(KvMemory& memory, int64_t layer,
                        CachedSequence& sequence, const ModelShape& shape,
                        float scale, std::vector<float>* mass,
                        int64_t* num_queries);

 private:
  std::vector<float> queries_;  // [queries, H, D]
};

}  // namespace sentencekv
