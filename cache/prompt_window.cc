#include "cache/prompt_window.h"

#include <utility>

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

absl::Status PromptWindow::TakeMass(Backend& backend, const ModelShape& shape,
                                    const KvLayerView& kv, const int32_t* pages,
                                    int64_t num_prompt, float scale,
                                    std::vector<float>* mass,
                                    int64_t* num_queries) {
  const std::vector<float> queries = std::exchange(queries_, {});
  *num_queries = std::ssize(queries) / (shape.num_heads * shape.head_dim);
  mass->resize(static_cast<size_t>(shape.num_heads * num_prompt));
  return backend.AttentionMass({.queries = queries.data(),
                                .num_queries = *num_queries,
                                .first_position = num_prompt - *num_queries,
                                .kv = kv,
                                .pages = pages,
                                .num_heads = shape.num_heads,
                                .scale = scale,
                                .out = mass->data()});
}

}  // namespace sentencekv
