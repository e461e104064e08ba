// How LlamaModel lays out a step: checks of the batch, rows, groups by policy,
// and what is prepared for all layers.
#include <algorithm>

#include "engine/llama_model.h"
#include "fmt/format.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

absl::Status Invalid(std::string_view what, int64_t value, int64_t limit) {
  return absl::InvalidArgumentError(
      fmt::format("forward: {}: {}, limit {}", what, value, limit));
}

}  // namespace

absl::Status LlamaModel::CheckBatch(std::span<const ForwardSequence> batch,
                                    const PagePool& pool) const {
  const KvLayout& layout = pool.layout();
  if (layout.num_layers != config_.num_layers ||
      layout.num_kv_heads != config_.num_kv_heads ||
      layout.head_dim != config_.head_dim) {
    return absl::InvalidArgumentError(fmt::format(
        "forward: the pool holds {} layers of {} heads of {}, not {} of {} of "
        "{}",
        layout.num_layers, layout.num_kv_heads, layout.head_dim,
        config_.num_layers, config_.num_kv_heads, config_.head_dim));
  }
  int64_t num_tokens = 0, num_logits = 0;
  for (const ForwardSequence& entry : batch) {
    if (entry.sequence == nullptr || entry.policy == nullptr) {
      return absl::InvalidArgumentError(
          "forward: an entry without sequence or policy");
    }
    const auto count = static_cast<int64_t>(entry.tokens.size());
    if (count < 1 || entry.num_logits < 0 || entry.num_logits > count) {
      return Invalid("logits wanted of a sequence's tokens", entry.num_logits,
                     count);
    }
    const int64_t length = entry.sequence->num_tokens + count;
    const auto pages = static_cast<int64_t>(entry.sequence->pages.size());
    if (length > config_.context_length) {
      return Invalid("length of a sequence", length, config_.context_length);
    }
    if (PagesFor(length) > pages) {
      return Invalid("pages a sequence needs", PagesFor(length), pages);
    }
    for (const int32_t token : entry.tokens) {
      if (token < 0 || token >= config_.vocab_size) {
        return Invalid("token", token, config_.vocab_size);
      }
    }
    num_tokens += count;
    num_logits += entry.num_logits;
  }
  if (num_tokens > limits_.max_tokens_per_step) {
    return Invalid("tokens of the step", num_tokens,
                   limits_.max_tokens_per_step);
  }
  if (num_logits > limits_.max_logits_per_step) {
    return Invalid("logits of the step", num_logits,
                   limits_.max_logits_per_step);
  }
  return absl::OkStatus();
}

// Rows follow the order of `batch`; the arrays of sequences are grouped by
// policy, in order of first appearance.
void LlamaModel::PlanStep(std::span<const ForwardSequence> batch) {
  step_.tokens.clear();
  step_.positions.clear();
  step_.logits_rows.clear();
  step_.sequences.clear();
  step_.kv_sequences.clear();
  step_.groups.clear();
  for (const ForwardSequence& entry : batch) {
    const int64_t row_begin = step_.num_tokens();
    const auto count = static_cast<int64_t>(entry.tokens.size());
    for (int64_t i = 0; i < count; ++i) {
      step_.tokens.push_back(entry.tokens[static_cast<size_t>(i)]);
      step_.positions.push_back(
          static_cast<int32_t>(entry.sequence->num_tokens + i));
      if (i >= count - entry.num_logits) {
        step_.logits_rows.push_back(static_cast<int32_t>(row_begin + i));
      }
    }
    bool is_known = false;
    for (const PolicyGroup& group : step_.groups) {
      is_known = is_known || group.policy == entry.policy;
    }
    if (!is_known) step_.groups.push_back({.policy = entry.policy});
  }
  for (PolicyGroup& group : step_.groups) {
    group.begin = step_.sequences.size();
    int64_t row_begin = 0;
    for (const ForwardSequence& entry : batch) {
      if (entry.policy == group.policy) AddSequence(entry, row_begin);
      row_begin += static_cast<int64_t>(entry.tokens.size());
    }
    group.count = step_.sequences.size() - group.begin;
  }
}

void LlamaModel::AddSequence(const ForwardSequence& entry, int64_t row_begin) {
  step_.sequences.push_back({.sequence = entry.sequence,
                             .tokens = entry.tokens,
                             .row_begin = row_begin});
  step_.kv_sequences.push_back(
      {.row_begin = row_begin,
       .num_rows = static_cast<int64_t>(entry.tokens.size()),
       .position = entry.sequence->num_tokens,
       .pages = entry.sequence->pages.data()});
}

// A step of one policy, a token and its logits of each sequence, may be
// prepared for all layers at once.
absl::Status LlamaModel::PrepareStep(KvMemory& memory) {
  const bool may_be_prepared = step_.groups.size() == 1 &&
                               step_.tokens.size() == step_.sequences.size() &&
                               step_.tokens.size() == step_.logits_rows.size();
  step_.is_prepared = false;
  for (const PolicyGroup& group : step_.groups) {
    SKV_ASSIGN_OR_RETURN(
        step_.is_prepared,
        group.policy->PrepareStep(
            memory,
            std::span(step_.sequences).subspan(group.begin, group.count),
            may_be_prepared ? &step_.written : nullptr));
  }
  return step_.is_prepared ? memory.Ready() : absl::OkStatus();
}

absl::Status LlamaModel::RunPreparedStep(KvMemory& memory) {
  SKV_RETURN_IF_ERROR(backend_.RunStep(
      {.num_rows = step_.num_tokens(),
       .most_rows =
           std::min(limits_.max_tokens_per_step, limits_.max_logits_per_step)},
      [&] { return IssueStep(memory); }));
  std::vector<CachedSequence*> written;
  for (const StepSequence& step : step_.sequences) {
    written.push_back(step.sequence);
  }
  return memory.SaveNext(written);
}

}  // namespace sentencekv
