#include "cache/sentence_policy.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "cache/device_choosing.h"
#include "cache/host_choosing.h"
#include "cache/sentence_marks.h"
#include "cache/sentence_settings.h"
#include "cache/sentence_state.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

class SentencePolicy final : public KvPolicy {
 public:
  explicit SentencePolicy(const KvPolicyContext& context)
      : shape_(context.shape),
        marks_(std::make_shared<const SentenceMarks>(
            SentenceMarks::Build(*context.tokenizer))),
        host_(context.shape),
        device_(context.shape) {}

  std::string_view name() const override { return kSentencePolicy; }
  std::unique_ptr<PolicyState> NewState(
      const KvOptions& options) const override;
  // The prior is made from the last queries of the prompt.
  int64_t num_replayed() const override { return kPromptWindow; }
  bool repeats_one_by_one() const override { return true; }
  // Also what was generated while the context fitted the budget.
  int64_t NumExact(const CachedSequence& sequence) const override;
  absl::Status OnReuse(KvMemory& memory, CachedSequence& sequence,
                       std::span<const int32_t> tokens) override;
  void OnAppend(std::span<const StepSequence> sequences) override;
  absl::StatusOr<bool> PrepareStep(
      KvMemory& memory, std::span<const StepSequence> sequences,
      std::vector<const int32_t*>* written) override;
  absl::Status Attend(KvMemory& memory, const AttendInput& input) override;
  absl::Status OnComputed(KvMemory& memory) override;
  void OnRelease(CachedSequence&) override {}
  const ReadTotals* read_totals() const override { return &totals_; }

 private:
  static SentenceState& StateOf(CachedSequence& sequence) {
    return static_cast<SentenceState&>(*sequence.policy_state);
  }
  // Prompts, and contexts that fit the budget, are attended to as a whole.
  static bool ReadsAll(const StepSequence& step, const SentenceSpans& spans);
  static SentenceSpans SpansOf(const StepSequence& step);
  void SplitRows(const AttendInput& input);
  absl::Status UpdateIndex(KvMemory& memory, const AttendInput& input);
  // Writes the entries that are missing in a layer.
  absl::Status IndexMissing(KvMemory& memory, int64_t layer,
                            std::span<CachedSequence* const> sequences);

  const ModelShape shape_;
  const std::shared_ptr<const SentenceMarks> marks_;
  // Of one call of Attend; kept for their memory.
  std::vector<ExactRows> dense_;
  std::vector<SentenceIndexItem> index_items_;
  HostChoosing host_;
  DeviceChoosing device_;
  std::vector<CachedSequence*> prepared_;  // all of the step; empty: none is
  ReadTotals totals_;
};

std::unique_ptr<PolicyState> SentencePolicy::NewState(
    const KvOptions& options) const {
  return std::make_unique<SentenceState>(shape_, marks_, SettingsOf(options));
}

int64_t SentencePolicy::NumExact(const CachedSequence& sequence) const {
  const auto& state = static_cast<const SentenceState&>(*sequence.policy_state);
  return std::min(
      sequence.num_tokens,
      std::max(sequence.num_prompt, state.settings.limits.DenseTokens()));
}

void SentencePolicy::OnAppend(std::span<const StepSequence> sequences) {
  for (const StepSequence& step : sequences) {
    SentenceState& state = StateOf(*step.sequence);
    state.Append(step.tokens);
    totals_.sentences_indexed += state.num_missing();
  }
}

// The index depends on the tokens and their keys alone: made again, it is the
// same.
absl::Status SentencePolicy::OnReuse(KvMemory& memory, CachedSequence& sequence,
                                     std::span<const int32_t> tokens) {
  SentenceState& state = StateOf(sequence);
  state.Append(tokens);
  totals_.sentences_indexed += state.num_missing();
  CachedSequence* const one = &sequence;
  for (int64_t layer = 0; layer < shape_.num_layers; ++layer) {
    SKV_RETURN_IF_ERROR(IndexMissing(memory, layer, {&one, 1}));
  }
  return absl::OkStatus();
}

bool SentencePolicy::ReadsAll(const StepSequence& step,
                              const SentenceSpans& spans) {
  return spans.num_tokens <= step.sequence->num_prompt ||
         step.tokens.size() > 1 || spans.ends.empty() ||
         spans.num_tokens <=
             StateOf(*step.sequence).settings.limits.DenseTokens();
}

SentenceSpans SentencePolicy::SpansOf(const StepSequence& step) {
  return StateOf(*step.sequence)
      .Spans(step.sequence->num_tokens +
             static_cast<int64_t>(step.tokens.size()));
}

// All rows that can choose on the device do. Where there are no others the step
// is prepared.
absl::StatusOr<bool> SentencePolicy::PrepareStep(
    KvMemory& memory, std::span<const StepSequence> sequences,
    std::vector<const int32_t*>* written) {
  device_.BeginStep();
  prepared_.clear();
  bool all_on_device = true;
  for (const StepSequence& step : sequences) {
    const SentenceSpans spans = SpansOf(step);
    bool is_on_device = false;
    if (!ReadsAll(step, spans)) {
      SKV_ASSIGN_OR_RETURN(
          is_on_device,
          device_.Take(memory, StateOf(*step.sequence), step, spans));
    }
    all_on_device = all_on_device && is_on_device;
  }
  if (!all_on_device || written == nullptr) return false;
  SKV_ASSIGN_OR_RETURN(const bool is_prepared,
                       device_.BringLastPages(memory, written));
  if (!is_prepared) return false;
  for (const StepSequence& step : sequences) prepared_.push_back(step.sequence);
  return true;
}

absl::Status SentencePolicy::Attend(KvMemory& memory,
                                    const AttendInput& input) {
  if (!prepared_.empty()) return device_.AttendToBrought(memory, input);
  SplitRows(input);
  SKV_RETURN_IF_ERROR(AttendExactly(memory, input, dense_));
  SKV_RETURN_IF_ERROR(device_.Attend(memory, input));
  SKV_RETURN_IF_ERROR(host_.Attend(memory, input, &totals_));
  return UpdateIndex(memory, input);
}

// A step that is prepared writes no entries itself; nothing in it reads those
// of sentences that it closes.
absl::Status SentencePolicy::OnComputed(KvMemory& memory) {
  SKV_RETURN_IF_ERROR(device_.EndStep(memory, &totals_));
  if (prepared_.empty()) return absl::OkStatus();
  for (int64_t layer = 0; layer < shape_.num_layers; ++layer) {
    SKV_RETURN_IF_ERROR(IndexMissing(memory, layer, prepared_));
  }
  return absl::OkStatus();
}

void SentencePolicy::SplitRows(const AttendInput& input) {
  dense_.clear();
  host_.Begin();
  for (size_t i = 0; i < input.sequences.size(); ++i) {
    const StepSequence& step = input.sequences[i];
    SentenceState& state = StateOf(*step.sequence);
    const SentenceSpans spans = SpansOf(step);
    if (ReadsAll(step, spans)) {
      dense_.push_back({step.sequence, input.kv_sequences[i]});
      if (spans.num_tokens <= step.sequence->num_prompt) continue;
      totals_.counts += state.reads.AddWhole(input.layer, spans.num_tokens);
    } else if (state.choosing.there == nullptr) {
      host_.Take(state, step, spans);
    }
  }
}

// Entries of the sentences that closed in this step, whose keys are written by
// now, and then the prior of prompts that end in it.
absl::Status SentencePolicy::UpdateIndex(KvMemory& memory,
                                         const AttendInput& input) {
  std::vector<CachedSequence*> sequences;
  for (const StepSequence& step : input.sequences) {
    sequences.push_back(step.sequence);
  }
  SKV_RETURN_IF_ERROR(IndexMissing(memory, input.layer, sequences));
  const int64_t row_width =
      (shape_.num_heads + 2 * shape_.num_kv_heads) * shape_.head_dim;
  for (const StepSequence& step : input.sequences) {
    CachedSequence& sequence = *step.sequence;
    SentenceState& state = StateOf(sequence);
    const auto num_rows = static_cast<int64_t>(step.tokens.size());
    const float* const rows = input.qkv + step.row_begin * row_width;
    if (!state.settings.prior) continue;
    if (sequence.num_tokens >= sequence.num_prompt) continue;
    SKV_RETURN_IF_ERROR(
        state.KeepPromptQueries(memory.backend(), input.layer, rows, num_rows,
                                sequence.num_tokens, sequence.num_prompt));
    const int64_t last_row = sequence.num_prompt - 1 - sequence.num_tokens;
    if (last_row >= num_rows) continue;
    SKV_RETURN_IF_ERROR(state.MakePrior(memory, input.layer, sequence,
                                        rows + last_row * row_width,
                                        input.scale));
  }
  return absl::OkStatus();
}

absl::Status SentencePolicy::IndexMissing(
    KvMemory& memory, int64_t layer,
    std::span<CachedSequence* const> sequences) {
  std::vector<CachedSequence*> behind;
  for (CachedSequence* const sequence : sequences) {
    if (StateOf(*sequence).num_missing() == 0) continue;
    SKV_RETURN_IF_ERROR(StateOf(*sequence).ReserveEntries(memory.backend()));
    behind.push_back(sequence);
  }
  index_items_.clear();
  std::vector<size_t> first_item = {0};
  const auto bring = [&](int64_t i) -> absl::Status {
    CachedSequence& sequence = *behind[static_cast<size_t>(i)];
    const SentenceState& state = StateOf(sequence);
    SKV_ASSIGN_OR_RETURN(const int32_t* const pages,
                         memory.Bring(layer, sequence, state.missing_begin(),
                                      state.missing_end()));
    state.AppendMissing(layer, pages, &index_items_);
    first_item.push_back(index_items_.size());
    return absl::OkStatus();
  };
  const auto index = [&](int64_t begin, int64_t end) {
    const size_t first = first_item[static_cast<size_t>(begin)];
    return memory.backend().IndexSentences(
        {.kv = memory.view(layer),
         .items = index_items_.data() + first,
         .num_items = static_cast<int64_t>(
             first_item[static_cast<size_t>(end)] - first)});
  };
  return RunInPieces(memory, std::ssize(behind), bring, index);
}

}  // namespace

std::unique_ptr<KvPolicy> MakeSentencePolicy(const KvPolicyContext& context) {
  return std::make_unique<SentencePolicy>(context);
}

}  // namespace sentencekv
