#include "cache/paper_layer.h"

#include <algorithm>
#include <numeric>

#include "kernels/check.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// K at `positions`, ascending and at least one: [positions, D].
absl::Status ReadKeys(const PaperLayerView& view, int64_t kv_head,
                      std::span<const int32_t> positions,
                      std::vector<float>* keys) {
  view.memory.BeginUse();
  ReadKeysParams params;
  params.kv = view.memory.view(view.layer);
  params.kv_head = kv_head;
  SKV_ASSIGN_OR_RETURN(
      params.pages, view.memory.Bring(view.layer, view.sequence,
                                      positions.front(), positions.back() + 1));
  SKV_RETURN_IF_ERROR(view.memory.Ready());
  params.positions = positions.data();
  params.num_positions = std::ssize(positions);
  keys->resize(positions.size() *
               static_cast<size_t>(params.kv.layout.head_dim));
  params.out = keys->data();
  return view.memory.backend().ReadKeys(params);
}

// [H, num_keys] summed over the query heads of one KV head, for the first
// `count` keys.
std::vector<float> GroupMass(std::span<const float> mass, int64_t num_keys,
                             int64_t first_head, int64_t group, int64_t count) {
  std::vector<float> sum(static_cast<size_t>(count));
  for (int64_t head = first_head; head < first_head + group; ++head) {
    const auto row = mass.subspan(static_cast<size_t>(head * num_keys));
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += row[i];
  }
  return sum;
}

}  // namespace

absl::Status PaperLayer::KeepPrompt(const PaperLayerView& view,
                                    std::span<const int32_t> ends) {
  SKV_RETURN_IF_ERROR(ChooseKept(view));
  window_ = {};
  const std::vector<int32_t> bounds = SentenceBounds(ends, num_prompt_);
  longest_listed_ =
      LongestListed(std::ssize(heads_.front().kept()), std::ssize(bounds) - 1);
  for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
    SKV_RETURN_IF_ERROR(AddPromptSentences(view, g, bounds));
  }
  open_begin_ = num_prompt_;
  query_sum_.assign(static_cast<size_t>(shape_.num_kv_heads * shape_.head_dim),
                    0.0f);
  return absl::OkStatus();
}

absl::Status PaperLayer::ChooseKept(const PaperLayerView& view) {
  const int64_t num_kept = NumKept(num_prompt_, budget_.kept);
  if (num_kept == num_prompt_) {
    std::vector<int32_t> all(static_cast<size_t>(num_prompt_));
    std::iota(all.begin(), all.end(), 0);
    heads_.assign(static_cast<size_t>(shape_.num_kv_heads),
                  PaperIndex(all, num_prompt_));
    return absl::OkStatus();
  }
  std::vector<float> mass;
  int64_t num_queries = 0;
  SKV_RETURN_IF_ERROR(window_.TakeMass(view.memory, view.layer, view.sequence,
                                       shape_, view.scale, &mass,
                                       &num_queries));
  // A prefix that is there already ends before the window.
  SKV_CHECK(num_queries == kPaperWindow);
  const int64_t group = shape_.num_heads / shape_.num_kv_heads;
  for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
    heads_.emplace_back(
        KeepHeaviest(GroupMass(mass, num_prompt_, g * group, group,
                               num_prompt_ - kPaperWindow),
                     num_kept),
        num_prompt_);
  }
  return absl::OkStatus();
}

absl::Status PaperLayer::AddPromptSentences(const PaperLayerView& view,
                                            int64_t kv_head,
                                            std::span<const int32_t> bounds) {
  PaperIndex& head = heads_[static_cast<size_t>(kv_head)];
  const std::span<const int32_t> kept = head.kept();
  std::vector<float> keys;
  SKV_RETURN_IF_ERROR(ReadKeys(view, kv_head, kept, &keys));
  auto begin = kept.begin();
  for (const int32_t bound : bounds.subspan(1)) {
    const auto end = std::lower_bound(begin, kept.end(), bound);
    const int64_t first = begin - kept.begin();
    const int64_t count = end - begin;
    begin = end;
    if (count == 0) continue;
    head.AddSentence(
        first, std::min(count, longest_listed_), shape_.head_dim,
        std::span(keys).subspan(static_cast<size_t>(first * shape_.head_dim),
                                static_cast<size_t>(count * shape_.head_dim)));
  }
  return absl::OkStatus();
}

absl::Status PaperLayer::AddQuery(Backend& backend, const float* query) {
  const int64_t dim = shape_.head_dim;
  std::vector<float> heads(static_cast<size_t>(shape_.num_heads * dim));
  SKV_RETURN_IF_ERROR(
      backend.CopyToHost(heads.data(), query, heads.size() * sizeof(float)));
  const int64_t group = shape_.num_heads / shape_.num_kv_heads;
  for (int64_t i = 0; i < shape_.num_heads * dim; ++i) {
    const int64_t g = i / dim / group;
    query_sum_[static_cast<size_t>(g * dim + i % dim)] +=
        heads[static_cast<size_t>(i)];
  }
  ++num_queries_;
  return absl::OkStatus();
}

absl::Status PaperLayer::AddGeneratedSentence(const PaperLayerView& view,
                                              int64_t position) {
  std::vector<int32_t> positions(
      static_cast<size_t>(position + 1 - open_begin_));
  std::iota(positions.begin(), positions.end(),
            static_cast<int32_t>(open_begin_));
  // The published method cannot look up a sentence that its table is too narrow
  // for.
  const int64_t count = std::ssize(positions);
  const int64_t num_listed = count > longest_listed_ ? 0 : count;
  std::vector<float> keys;
  for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
    PaperIndex& head = heads_[static_cast<size_t>(g)];
    SKV_RETURN_IF_ERROR(ReadKeys(view, g, positions, &keys));
    head.AddSentence(std::ssize(head.kept()) + open_begin_ - num_prompt_,
                     num_listed, shape_.head_dim, keys);
  }
  return absl::OkStatus();
}

absl::Status PaperLayer::Decode(const PaperLayerView& view, const float* query,
                                int64_t position, bool ends_sentence,
                                std::vector<std::vector<int32_t>>* selected) {
  SKV_CHECK(!heads_.empty() && position >= num_prompt_);
  SKV_RETURN_IF_ERROR(AddQuery(view.memory.backend(), query));
  if (ends_sentence) {
    SKV_RETURN_IF_ERROR(AddGeneratedSentence(view, position));
    open_begin_ = position + 1;
    std::fill(query_sum_.begin(), query_sum_.end(), 0.0f);
    num_queries_ = 0;
  }
  selected->clear();
  const std::span<const float> sums(query_sum_);
  const auto dim = static_cast<size_t>(shape_.head_dim);
  for (size_t g = 0; g < heads_.size(); ++g) {
    const int64_t num_entries =
        std::ssize(heads_[g].kept()) + position + 1 - num_prompt_;
    selected->push_back(num_queries_ <= 1
                            ? heads_[g].All(num_entries)
                            : heads_[g].Select(sums.subspan(g * dim, dim),
                                               num_entries, budget_.attended));
  }
  return absl::OkStatus();
}

}  // namespace sentencekv
