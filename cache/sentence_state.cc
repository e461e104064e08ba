#include "cache/sentence_state.h"

#include <algorithm>
#include <utility>

#include "kernels/status_macros.h"

namespace sentencekv {

absl::Status SentenceState::ReserveEntries(Backend& backend) {
  return index.Reserve(backend, static_cast<int64_t>(segmenter.ends().size()));
}

void SentenceState::AppendMissing(int64_t layer, std::span<const int32_t> pages,
                                  std::vector<SentenceIndexItem>* items) const {
  const SentenceSpans all = {segmenter.ends(), 0};
  for (int64_t i = num_indexed; i < static_cast<int64_t>(all.ends.size());
       ++i) {
    items->push_back({.pages = pages.data(),
                      .begin = all.begin(i),
                      .end = all.end(i),
                      .entry = i,
                      .blocks = index.blocks(layer, 0),
                      .head_stride = index.head_stride()});
  }
}

absl::Status SentenceState::KeepPromptQueries(Backend& backend, int64_t layer,
                                              const float* rows,
                                              int64_t num_rows,
                                              int64_t position,
                                              int64_t num_prompt) {
  const int64_t first =
      std::max({position, num_prompt - kPriorQueries, int64_t{0}});
  const int64_t end = std::min(position + num_rows, num_prompt);
  const int64_t width = shape_.num_heads * shape_.head_dim;
  const int64_t stride = width + 2 * shape_.num_kv_heads * shape_.head_dim;
  prompt_queries_.resize(static_cast<size_t>(shape_.num_layers));
  std::vector<float>& kept = prompt_queries_[static_cast<size_t>(layer)];
  for (int64_t p = first; p < end; ++p) {
    const size_t size = kept.size();
    kept.resize(size + static_cast<size_t>(width));
    SKV_RETURN_IF_ERROR(
        backend.CopyToHost(kept.data() + size, rows + (p - position) * stride,
                           static_cast<size_t>(width) * sizeof(float)));
  }
  return absl::OkStatus();
}

absl::Status SentenceState::MakePrior(Backend& backend, int64_t layer,
                                      const KvLayerView& kv,
                                      const CachedSequence& sequence,
                                      float scale) {
  std::vector<float> queries =
      std::move(prompt_queries_[static_cast<size_t>(layer)]);
  const int64_t num_prompt = sequence.num_prompt;
  const int64_t width = shape_.num_heads * shape_.head_dim;
  const int64_t num_queries = static_cast<int64_t>(queries.size()) / width;
  std::vector<float> mass(static_cast<size_t>(shape_.num_heads * num_prompt));
  SKV_RETURN_IF_ERROR(
      backend.AttentionMass({.queries = queries.data(),
                             .num_queries = num_queries,
                             .first_position = num_prompt - num_queries,
                             .kv = kv,
                             .pages = sequence.pages.data(),
                             .num_heads = shape_.num_heads,
                             .scale = scale,
                             .out = mass.data()}));
  const int64_t group = shape_.num_heads / shape_.num_kv_heads;
  const SentenceSpans spans = {segmenter.ends(), num_prompt};
  for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
    std::vector<float> prior(spans.ends.size(), 0.0f);
    for (size_t i = 0; i < prior.size(); ++i) {
      const auto sentence = static_cast<int64_t>(i);
      for (int64_t h = g * group; h < (g + 1) * group; ++h) {
        const float* of_head = mass.data() + h * num_prompt;
        for (int64_t p = spans.begin(sentence); p < spans.end(sentence); ++p) {
          prior[i] += of_head[p];
        }
      }
      prior[i] /= static_cast<float>(num_queries);
    }
    index.SetPrior(layer, g, std::move(prior));
  }
  return absl::OkStatus();
}

}  // namespace sentencekv
