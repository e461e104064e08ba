#include "kernels/cuda/sentence_runner.h"

#include <algorithm>
#include <span>

#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/sentence_index_kernels.h"
#include "kernels/cuda/sentence_score_kernels.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// The pages that a sentence touches, by their place in the sequence.
int64_t FirstPage(const SentenceIndexItem& item) {
  return item.begin / kPageTokens;
}
int64_t NumPages(const SentenceIndexItem& item) {
  return (item.end - 1) / kPageTokens + 1 - FirstPage(item);
}

bool HasSigns(const SentenceScoreItem& item) {
  return item.kind == SentenceIndexKind::kSign;
}

}  // namespace

absl::Status SentenceRunner::Index(const IndexSentencesParams& params) {
  const std::span items(params.items, static_cast<size_t>(params.num_items));
  int64_t num_pages = 0;
  for (const SentenceIndexItem& item : items) num_pages += NumPages(item);
  SKV_ASSIGN_OR_RETURN(
      StagedArrays arrays,
      ring_.Reserve(StagedArrays::Bytes<IndexSentenceTask>(params.num_items) +
                    StagedArrays::Bytes<int32_t>(num_pages)));
  const auto tasks = arrays.Add<IndexSentenceTask>(params.num_items);
  const auto pages = arrays.Add<int32_t>(num_pages);
  int64_t next_page = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    const SentenceIndexItem& item = items[i];
    tasks.host[i] = {.kind = item.kind,
                     .page_begin = next_page - FirstPage(item),
                     .begin = item.begin,
                     .end = item.end,
                     .entry = item.entry,
                     .blocks = item.blocks,
                     .head_stride = item.head_stride,
                     .signs = item.signs,
                     .sign_stride = item.sign_stride};
    std::copy_n(item.pages + FirstPage(item), NumPages(item),
                pages.host + next_page);
    next_page += NumPages(item);
  }
  SKV_RETURN_IF_ERROR(ring_.Send(arrays));
  SKV_RETURN_IF_CUDA_ERROR(LaunchIndexSentences({.kv = MakePagedKv(params.kv),
                                                 .tasks = tasks.device,
                                                 .num_tasks = params.num_items,
                                                 .pages = pages.device},
                                                streams_.compute()));
  return absl::OkStatus();
}

absl::Status SentenceRunner::Score(const ScoreSentencesParams& params) {
  const std::span items(params.items, static_cast<size_t>(params.num_items));
  size_t size_bytes = StagedArrays::Bytes<ScoreSentencesTask>(params.num_items);
  ScoreSentencesLaunch launch = {.num_tasks = params.num_items,
                                 .num_heads = params.num_heads,
                                 .head_dim = params.head_dim,
                                 .scale = params.scale};
  for (const SentenceScoreItem& item : items) {
    if (item.prior != nullptr) {
      size_bytes += StagedArrays::Bytes<float>(item.num_entries);
    }
    if (HasSigns(item)) {
      size_bytes += StagedArrays::Bytes<int32_t>(item.num_entries);
    }
    launch.most_entries = std::max(launch.most_entries, item.num_entries);
    launch.sum_entries += item.num_entries;
  }
  const int64_t workspace_floats =
      ScoreWorkspaceFloats(launch.sum_entries, params.num_heads);
  SKV_ASSIGN_OR_RETURN(
      launch.workspace,
      scratch_.AtLeast<float>(workspace_floats + launch.sum_entries));
  float* const scores = launch.workspace + workspace_floats;

  SKV_ASSIGN_OR_RETURN(StagedArrays arrays, ring_.Reserve(size_bytes));
  const auto tasks = arrays.Add<ScoreSentencesTask>(params.num_items);
  launch.tasks = tasks.device;
  int64_t first_score = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    const SentenceScoreItem& item = items[i];
    const auto num_entries = static_cast<size_t>(item.num_entries);
    tasks.host[i] = {
        .kind = item.kind,
        .q = item.q,
        .blocks = item.blocks,
        .num_entries = item.num_entries,
        .first_score = first_score,
        .prior = item.prior == nullptr
                     ? nullptr
                     : arrays.Put(std::span(item.prior, num_entries)),
        .prior_weight = item.prior_weight,
        .scores = scores + first_score,
        .signs = item.signs,
        .ends = HasSigns(item) ? arrays.Put(std::span(item.ends, num_entries))
                               : nullptr,
        .query_sum = item.query_sum,
        .num_summed = item.num_summed,
        .blend = item.blend,
        .num_refined = item.num_refined};
    first_score += item.num_entries;
  }
  SKV_RETURN_IF_ERROR(ring_.Send(arrays));
  SKV_RETURN_IF_CUDA_ERROR(LaunchScoreSentences(launch, streams_.compute()));

  host_scores_.resize(static_cast<size_t>(launch.sum_entries));
  SKV_RETURN_IF_ERROR(
      ring_.CopyToHost(reinterpret_cast<std::byte*>(host_scores_.data()),
                       reinterpret_cast<const std::byte*>(scores),
                       host_scores_.size() * sizeof(float)));
  const float* from = host_scores_.data();
  for (const SentenceScoreItem& item : items) {
    std::copy_n(from, item.num_entries, item.scores);
    from += item.num_entries;
  }
  return absl::OkStatus();
}

}  // namespace sentencekv
