#include "cache/host_choosing.h"

#include <span>

#include "cache/sentence_settings.h"
#include "cache/sentence_state.h"
#include "cache/stopwatch.h"
#include "kernels/status_macros.h"

namespace sentencekv {

absl::Status HostChoosing::Attend(KvMemory& memory, const AttendInput& input,
                                  ReadTotals* totals) {
  {
    const Stopwatch time(&totals->score_seconds);
    SKV_RETURN_IF_ERROR(Score(memory.backend(), input));
  }
  {
    const Stopwatch time(&totals->select_seconds);
    Select(input.layer, totals);
  }
  SKV_RETURN_IF_ERROR(AttendToChosen(memory, input, chosen_rows_));
  return PrefetchNext(memory, input.layer);
}

absl::Status HostChoosing::Score(Backend& backend, const AttendInput& input) {
  const int64_t num_kv_heads = shape_.num_kv_heads;
  const int64_t group_width = shape_.num_heads / num_kv_heads * shape_.head_dim;
  const int64_t row_width =
      (shape_.num_heads + 2 * num_kv_heads) * shape_.head_dim;
  size_t num_scores = 0;
  for (const Row& row : rows_) {
    num_scores += row.spans.ends.size() * static_cast<size_t>(num_kv_heads);
  }
  scores_.resize(num_scores);
  score_items_.clear();
  float* scores = scores_.data();
  for (Row& row : rows_) {
    SentenceState& state = *row.state;
    SKV_RETURN_IF_ERROR(state.PrepareScoring(backend));
    if (!state.settings.strict) {
      SKV_RETURN_IF_ERROR(state.lagging.SetQuery(
          backend, input.layer, input.qkv + row.step->row_begin * row_width));
    }
    const auto num_entries = static_cast<int64_t>(row.spans.ends.size());
    float* const query_sum = state.query_sum(input.layer);
    const float prior_weight = state.PriorWeight(*row.step->sequence);
    row.first_item = score_items_.size();
    for (int64_t g = 0; g < num_kv_heads; ++g) {
      SentenceIndex& index = state.index;
      score_items_.push_back(
          {.kind = index.kind(),
           .q = input.qkv + row.step->row_begin * row_width + g * group_width,
           .blocks = index.blocks().at(input.layer, g),
           .num_entries = num_entries,
           .prior = index.prior(input.layer, g, num_entries),
           .prior_weight = prior_weight,
           .scores = scores,
           .signs = index.signs(input.layer, g),
           .ends = row.spans.ends.data(),
           .num_refined = NumRefined(state.LimitsOf(input.layer, g).budget),
           .query_sum =
               query_sum == nullptr ? nullptr : query_sum + g * group_width,
           .num_summed = state.num_summed(),
           .blend = state.settings.query_blend});
      scores += num_entries;
    }
  }
  return backend.ScoreSentences(
      {.items = score_items_.data(),
       .num_items = static_cast<int64_t>(score_items_.size()),
       .num_heads = shape_.num_heads / num_kv_heads,
       .head_dim = shape_.head_dim,
       .scale = input.scale});
}

void HostChoosing::Select(int64_t layer, ReadTotals* totals) {
  chosen_rows_.clear();
  if (chosen_.size() < score_items_.size()) chosen_.resize(score_items_.size());
  for (const Row& row : rows_) {
    for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
      const size_t i = row.first_item + static_cast<size_t>(g);
      const SentenceScoreItem& item = score_items_[i];
      const SelectionLimits limits = row.state->LimitsOf(layer, g);
      const std::span<float> scores(item.scores,
                                    static_cast<size_t>(item.num_entries));
      row.state->AddReuseBonus(layer, g, scores);
      auto sentences = selector_.ChooseSentences(limits, row.spans, scores);
      if (!row.state->settings.strict) {
        sentences =
            row.state->lagging.Read(layer, g, sentences, &totals->repairs);
      }
      ChosenPages& chosen = chosen_[i];
      selector_.ListPages(limits, row.spans, sentences, &chosen);
      totals->counts += row.state->reads.AddSelection(
          limits, {.layer = layer,
                   .kv_head = g,
                   .spans = row.spans,
                   .scores = scores,
                   .sentences = sentences,
                   .num_attended = chosen.num_tokens});
      chosen_rows_.push_back(
          {row.step->sequence, row.step->row_begin, g, &chosen});
    }
  }
}

absl::Status HostChoosing::PrefetchNext(KvMemory& memory, int64_t layer) {
  for (const Row& row : rows_) {
    if (row.state->settings.strict) continue;
    for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
      selector_.ListPages(row.state->settings.limits, row.spans,
                          row.state->lagging.Next(layer, g), &next_);
      SKV_RETURN_IF_ERROR(
          memory.Prefetch(layer, g, *row.step->sequence, next_));
    }
  }
  return absl::OkStatus();
}

}  // namespace sentencekv
