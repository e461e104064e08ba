#include "cache/sentence_policy.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "cache/segmenter.h"
#include "cache/sentence_marks.h"
#include "cache/sentence_selection.h"
#include "cache/sentence_state.h"
#include "fmt/format.h"
#include "kernels/check.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

constexpr int64_t kDefaultBudget = 1024;
// A budget is at most this: more tokens than any model reads.
constexpr int64_t kMostBudget = int64_t{1} << 24;

class SentencePolicy final : public KvPolicy {
 public:
  explicit SentencePolicy(const KvPolicyContext& context)
      : shape_(context.shape),
        marks_(std::make_shared<const SentenceMarks>(
            SentenceMarks::Build(*context.tokenizer))) {}

  std::string_view name() const override { return "sentence"; }
  std::unique_ptr<PolicyState> NewState(
      const KvOptions& options) const override;
  // The prior is made from the last queries of the prompt.
  int64_t num_replayed() const override { return kPriorQueries; }
  bool repeats_one_by_one() const override { return true; }
  // Also what was generated while the context fitted the budget.
  int64_t NumExact(const CachedSequence& sequence) const override;
  absl::Status OnReuse(Backend& backend, const PagePool& pool,
                       CachedSequence& sequence,
                       std::span<const int32_t> tokens) override;
  void OnAppend(std::span<const StepSequence> sequences) override;
  absl::Status Attend(Backend& backend, const PagePool& pool,
                      const AttendInput& input) override;
  void OnRelease(CachedSequence&) override {}

 private:
  // One sequence's row, and the tokens it attends to in each KV head.
  struct Row {
    SentenceState* state = nullptr;
    const StepSequence* step = nullptr;
    SentenceSpans spans;
    size_t first_item = 0;  // of its G items
  };

  static SentenceState& StateOf(CachedSequence& sequence) {
    return static_cast<SentenceState&>(*sequence.policy_state);
  }
  void SplitRows(const AttendInput& input);
  absl::Status Score(Backend& backend, const AttendInput& input);
  void Select();
  absl::Status UpdateIndex(Backend& backend, const KvLayerView& kv,
                           const AttendInput& input);

  const ModelShape shape_;
  const std::shared_ptr<const SentenceMarks> marks_;
  // Of one call of Attend; kept for their memory.
  std::vector<KvSequence> dense_;
  std::vector<Row> rows_;
  std::vector<SentenceScoreItem> score_items_;
  std::vector<float> scores_;
  SentenceSelector selector_;
  std::vector<ChosenPages> chosen_;  // [rows * G]
  std::vector<SelectedTokens> selections_;
  std::vector<SentenceIndexItem> index_items_;
};

std::unique_ptr<PolicyState> SentencePolicy::NewState(
    const KvOptions& options) const {
  SelectionLimits limits;
  limits.budget =
      options.token_budget == 0 ? kDefaultBudget : options.token_budget;
  return std::make_unique<SentenceState>(shape_, marks_, limits);
}

int64_t SentencePolicy::NumExact(const CachedSequence& sequence) const {
  const auto& state = static_cast<const SentenceState&>(*sequence.policy_state);
  return std::min(sequence.num_tokens,
                  std::max(sequence.num_prompt, state.limits.DenseTokens()));
}

void SentencePolicy::OnAppend(std::span<const StepSequence> sequences) {
  for (const StepSequence& step : sequences) {
    SentenceState& state = StateOf(*step.sequence);
    state.MarkIndexed();  // the step before has written their entries
    state.segmenter.Append(step.tokens);
  }
}

// The index depends on the tokens and their keys alone: made again, it is the
// same.
absl::Status SentencePolicy::OnReuse(Backend& backend, const PagePool& pool,
                                     CachedSequence& sequence,
                                     std::span<const int32_t> tokens) {
  SentenceState& state = StateOf(sequence);
  state.segmenter.Append(tokens);
  SKV_RETURN_IF_ERROR(state.ReserveEntries(backend));
  for (int64_t layer = 0; layer < shape_.num_layers; ++layer) {
    index_items_.clear();
    state.AppendMissing(layer, sequence.pages, &index_items_);
    SKV_RETURN_IF_ERROR(backend.IndexSentences(
        {.kv = pool.layer(layer),
         .items = index_items_.data(),
         .num_items = static_cast<int64_t>(index_items_.size())}));
  }
  return absl::OkStatus();
}

absl::Status SentencePolicy::Attend(Backend& backend, const PagePool& pool,
                                    const AttendInput& input) {
  const KvLayerView kv = pool.layer(input.layer);
  SplitRows(input);
  SKV_RETURN_IF_ERROR(AttendExactly(backend, kv, input, dense_));
  SKV_RETURN_IF_ERROR(Score(backend, input));
  Select();
  SKV_RETURN_IF_ERROR(AttendToSelected(backend, kv, input, selections_));
  return UpdateIndex(backend, kv, input);
}

// Prompts, and contexts that fit the budget, are attended to as a whole.
void SentencePolicy::SplitRows(const AttendInput& input) {
  dense_.clear();
  rows_.clear();
  for (size_t i = 0; i < input.sequences.size(); ++i) {
    const StepSequence& step = input.sequences[i];
    SentenceState& state = StateOf(*step.sequence);
    const int64_t num_tokens =
        step.sequence->num_tokens + static_cast<int64_t>(step.tokens.size());
    const SentenceSpans spans = state.Spans(num_tokens);
    const bool is_prompt = num_tokens <= step.sequence->num_prompt;
    if (is_prompt || step.tokens.size() > 1 || spans.ends.empty() ||
        num_tokens <= state.limits.DenseTokens()) {
      dense_.push_back(input.kv_sequences[i]);
    } else {
      rows_.push_back({&state, &step, spans, 0});
    }
  }
}

absl::Status SentencePolicy::Score(Backend& backend, const AttendInput& input) {
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
    const auto num_entries = static_cast<int64_t>(row.spans.ends.size());
    row.first_item = score_items_.size();
    for (int64_t g = 0; g < num_kv_heads; ++g) {
      SentenceIndex& index = row.state->index;
      score_items_.push_back(
          {.q = input.qkv + row.step->row_begin * row_width + g * group_width,
           .blocks = index.blocks(input.layer, g),
           .num_entries = num_entries,
           .prior = index.prior(input.layer, g, num_entries),
           .scores = scores});
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

void SentencePolicy::Select() {
  selections_.clear();
  if (chosen_.size() < score_items_.size()) chosen_.resize(score_items_.size());
  for (const Row& row : rows_) {
    for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
      const size_t i = row.first_item + static_cast<size_t>(g);
      const SentenceScoreItem& item = score_items_[i];
      const SelectionLimits& limits = row.state->limits;
      const auto sentences = selector_.ChooseSentences(
          limits, row.spans,
          std::span(item.scores, static_cast<size_t>(item.num_entries)));
      ChosenPages& chosen = chosen_[i];
      chosen.pages.clear();
      chosen.masks.clear();
      chosen.num_tokens = 0;
      selector_.AppendPages(limits, row.spans, sentences,
                            row.step->sequence->pages, &chosen);
      selections_.push_back({row.step->row_begin, g, chosen.pages.data(),
                             chosen.masks.data(),
                             static_cast<int64_t>(chosen.pages.size())});
    }
  }
}

// Entries of the sentences that closed in this step, whose keys are written by
// now, and the prior of prompts that end in it.
absl::Status SentencePolicy::UpdateIndex(Backend& backend,
                                         const KvLayerView& kv,
                                         const AttendInput& input) {
  const int64_t row_width =
      (shape_.num_heads + 2 * shape_.num_kv_heads) * shape_.head_dim;
  index_items_.clear();
  for (const StepSequence& step : input.sequences) {
    const CachedSequence& sequence = *step.sequence;
    SentenceState& state = StateOf(*step.sequence);
    SKV_RETURN_IF_ERROR(state.ReserveEntries(backend));
    state.AppendMissing(input.layer, sequence.pages, &index_items_);
    const auto num_rows = static_cast<int64_t>(step.tokens.size());
    const int64_t end = sequence.num_tokens + num_rows;
    if (sequence.num_tokens >= sequence.num_prompt) continue;
    SKV_RETURN_IF_ERROR(state.KeepPromptQueries(
        backend, input.layer, input.qkv + step.row_begin * row_width, num_rows,
        sequence.num_tokens, sequence.num_prompt));
    if (end < sequence.num_prompt) continue;
    SKV_RETURN_IF_ERROR(
        state.MakePrior(backend, input.layer, kv, sequence, input.scale));
  }
  return backend.IndexSentences(
      {.kv = kv,
       .items = index_items_.data(),
       .num_items = static_cast<int64_t>(index_items_.size())});
}

}  // namespace

std::unique_ptr<KvPolicy> MakeSentencePolicy(const KvPolicyContext& context) {
  return std::make_unique<SentencePolicy>(context);
}

absl::Status ValidateSentenceOptions(const KvOptions& options) {
  if (options.token_budget < 0 || options.token_budget > kMostBudget) {
    return absl::InvalidArgumentError(
        fmt::format("kv.token_budget: must be in 0..{} (0: {}), got {}",
                    kMostBudget, kDefaultBudget, options.token_budget));
  }
  if (options.semantic_factor != 0) {
    return absl::InvalidArgumentError(fmt::format(
        "kv.semantic_factor: policy sentence keeps every token and takes none, "
        "got {}",
        options.semantic_factor));
  }
  return absl::OkStatus();
}

}  // namespace sentencekv
