#include "cache/prompt_window.h"

#include <utility>

#include "kernels/status_macros.h"

namespace sentencekv {

absl::Status PromptWindow::Add(Backend& backend, const ModelShape& shape,
                               const float* query, int64_t position,
                               int64_t num_prompt) {
  if (position < num_prompt - kPromptWindow) return absl::OkStatus();
  const auto width = static_cast<size_t>(shape.num_heads * shape.head_dim);
  queries_.resize(queries_.size() + width);
  return backend.CopyToHost(queries_.data() + queries_.size() - width, query,
                            width * sizeof(float));
}

absl::Status PromptWindow::TakeMass(KvMemory& memory, int64_t layer,
                                    CachedSequence& sequence,
                                    const ModelShape& shape, float scale,
                                    std::vector<float>* mass,
                                    int64_t* num_queries) {
  const int64_t num_prompt = sequence.num_prompt;
  const std::vector<float> queries = std::exchange(queries_, {});
  *num_queries = std::ssize(queries) / (shape.num_heads * shape.head_dim);
  mass->resize(static_cast<size_t>(shape.num_heads * num_prompt));
  memory.BeginUse();
  SKV_ASSIGN_OR_RETURN(const int32_t* const pages,
                       memory.Bring(layer, sequence, 0, num_prompt));
  SKV_RETURN_IF_ERROR(memory.Ready());
  return memory.backend().AttentionMass(
      {.queries = queries.data(),
       .num_queries = *num_queries,
       .first_position = num_prompt - *num_queries,
       .kv = memory.view(layer),
       .pages = pages,
       .num_heads = shape.num_heads,
       .scale = scale,
       .out = mass->data()});
}

}  // namespace sentencekv
