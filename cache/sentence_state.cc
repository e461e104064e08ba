#include "cache/sentence_state.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/status_macros.h"

namespace sentencekv {

SentenceIndexSize SentenceState::index_size() const {
  const auto sentences = static_cast<int64_t>(segmenter.ends().size());
  return {.sentences = sentences,
          .entries = sentences * shape_.num_layers * shape_.num_kv_heads,
          .bytes = index.size_bytes()};
}

void SentenceState::Append(std::span<const int32_t> tokens) {
  // The step before has written the entries of all sentences closed by then.
  num_indexed_ = static_cast<int64_t>(segmenter.ends().size());
  segmenter.Append(tokens);
  const bool closed =
      static_cast<int64_t>(segmenter.ends().size()) > num_indexed_;
  num_summed_ = closed ? 0 : num_summed_ + (has_scored_ ? 1 : 0);
  has_scored_ = false;
}

absl::Status SentenceState::ReserveEntries(Backend& backend) {
  const std::span<const int32_t> ends = segmenter.ends();
  return index.Reserve(backend, static_cast<int64_t>(ends.size()),
                       ends.empty() ? 0 : ends.back());
}

float* SentenceState::query_sum(int64_t layer) const {
  return query_sums_.data() == nullptr
             ? nullptr
             : query_sums_.as<float>() +
                   layer * shape_.num_heads * shape_.head_dim;
}

absl::Status SentenceState::PrepareScoring(Backend& backend) {
  has_scored_ = true;
  if (settings.query_blend == 0 || query_sums_.data() != nullptr) {
    return absl::OkStatus();
  }
  SKV_ASSIGN_OR_RETURN(
      query_sums_,
      backend.Allocate(static_cast<size_t>(shape_.num_layers *
                                           shape_.num_heads * shape_.head_dim) *
                           sizeof(float),
                       MemoryUse::kSentenceIndex));
  return absl::OkStatus();
}

float SentenceState::PriorWeight(const CachedSequence& sequence) const {
  if (settings.prior_half_life == 0) return 1.0f;
  const auto num_generated =
      static_cast<double>(sequence.num_tokens - sequence.num_prompt);
  return static_cast<float>(std::exp2(
      -num_generated / static_cast<double>(settings.prior_half_life)));
}

void SentenceState::AddReuseBonus(int64_t layer, int64_t kv_head,
                                  std::span<float> scores) const {
  if (settings.reuse_bonus == 0) return;
  const float factor = 1.0f + settings.reuse_bonus;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (reads.WasChosen(layer, kv_head, static_cast<int32_t>(i))) {
      scores[i] *= factor;
    }
  }
}

void SentenceState::AppendMissing(int64_t layer, const int32_t* pages,
                                  std::vector<SentenceIndexItem>* items) const {
  const SentenceSpans all = {segmenter.ends(), 0};
  for (int64_t i = num_indexed_; i < static_cast<int64_t>(all.ends.size());
       ++i) {
    items->push_back({.kind = index.kind(),
                      .pages = pages,
                      .begin = all.begin(i),
                      .end = all.end(i),
                      .entry = i,
                      .blocks = index.blocks().at(layer, 0),
                      .head_stride = index.blocks().stride(),
                      .signs = index.signs(layer, 0),
                      .sign_stride = index.sign_stride()});
  }
}

absl::Status SentenceState::KeepPromptQueries(Backend& backend, int64_t layer,
                                              const float* rows,
                                              int64_t num_rows,
                                              int64_t position,
                                              int64_t num_prompt) {
  const int64_t end = std::min(position + num_rows, num_prompt);
  const int64_t stride =
      (shape_.num_heads + 2 * shape_.num_kv_heads) * shape_.head_dim;
  windows_.resize(static_cast<size_t>(shape_.num_layers));
  PromptWindow& window = windows_[static_cast<size_t>(layer)];
  for (int64_t p = position; p < end; ++p) {
    SKV_RETURN_IF_ERROR(window.Add(
        backend, shape_, rows + (p - position) * stride, p, num_prompt));
  }
  return absl::OkStatus();
}

absl::Status SentenceState::MakePrior(KvMemory& memory, int64_t layer,
                                      CachedSequence& sequence,
                                      const float* last_query, float scale) {
  const int64_t num_prompt = sequence.num_prompt;
  std::vector<float> mass;
  int64_t num_queries = 0;
  SKV_RETURN_IF_ERROR(windows_[static_cast<size_t>(layer)].TakeMass(
      memory, layer, sequence, shape_, scale, &mass, &num_queries));
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
  if (!settings.head_budgets || spans.ends.empty()) return absl::OkStatus();
  return CompareWithIndex(memory.backend(), layer, spans, last_query, scale);
}

absl::Status SentenceState::CompareWithIndex(Backend& backend, int64_t layer,
                                             const SentenceSpans& spans,
                                             const float* last_query,
                                             float scale) {
  const auto num_entries = std::ssize(spans.ends);
  const int64_t group = shape_.num_heads / shape_.num_kv_heads;
  std::vector<float> scores(
      static_cast<size_t>(shape_.num_kv_heads * num_entries));
  std::vector<SentenceScoreItem> items;
  for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
    items.push_back({.kind = index.kind(),
                     .q = last_query + g * group * shape_.head_dim,
                     .blocks = index.blocks().at(layer, g),
                     .num_entries = num_entries,
                     .scores = scores.data() + g * num_entries,
                     .signs = index.signs(layer, g),
                     .ends = spans.ends.data(),
                     .num_refined = NumRefined(settings.limits.budget)});
  }
  SKV_RETURN_IF_ERROR(backend.ScoreSentences({.items = items.data(),
                                              .num_items = std::ssize(items),
                                              .num_heads = group,
                                              .head_dim = shape_.head_dim,
                                              .scale = scale}));
  for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
    const std::span<const float> attention(index.prior(layer, g, num_entries),
                                           spans.ends.size());
    head_budgets.AddHead(
        settings.limits, spans, attention,
        std::span<const float>(scores).subspan(
            static_cast<size_t>(g * num_entries), spans.ends.size()));
  }
  return absl::OkStatus();
}

}  // namespace sentencekv
