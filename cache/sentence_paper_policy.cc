#include "cache/sentence_paper_policy.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <utility>

#include "cache/paper_layer.h"
#include "fmt/format.h"
#include "kernels/check.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// Strings that the release looks up as tokens.
constexpr std::string_view kEndMarks[] = {".",  "!",   "?",    ". ",     "! ",
                                          "? ", "...", "\n\n", "\n\n\n", "。",
                                          "！", "？",  "。。"};
constexpr double kMostFactor = 1000;

int64_t BudgetOf(const KvOptions& options) {
  return options.token_budget == 0 ? kPaperTokenBudget : options.token_budget;
}

double FactorOf(const KvOptions& options) {
  return options.semantic_factor == 0 ? kPaperSemanticFactor
                                      : options.semantic_factor;
}

class PaperState final : public PolicyState {
 public:
  explicit PaperState(const KvOptions& options)
      : budget_{
            .attended = BudgetOf(options),
            .kept = static_cast<int64_t>(
                FactorOf(options) * static_cast<double>(BudgetOf(options)))} {}

  // Notes which of `tokens`, at positions `first`.., end a sentence. Of a step
  // that failed and is tried again the tokens come twice.
  void AddTokens(int64_t first, std::span<const int32_t> tokens,
                 std::span<const int32_t> end_ids) {
    while (!ends_.empty() && ends_.back() >= first) ends_.pop_back();
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (std::ranges::binary_search(end_ids, tokens[i])) {
        ends_.push_back(static_cast<int32_t>(first) + static_cast<int32_t>(i));
      }
    }
  }
  bool EndsSentence(int64_t position) const {
    return std::ranges::binary_search(ends_, position);
  }
  std::span<const int32_t> ends() const { return ends_; }

  const ReadCounts* read_counts() const override { return &counts_; }
  ReadCounts AddSelection(int64_t layer,
                          std::span<const std::vector<int32_t>> selected) {
    ReadCounts added;
    added.steps = layer == 0 ? 1 : 0;
    added.heads = std::ssize(selected);
    for (const auto& head : selected) added.tokens_attended += std::ssize(head);
    counts_ += added;
    return added;
  }

  PaperLayer& layer(int64_t layer, const ModelShape& shape,
                    int64_t num_prompt) {
    while (std::ssize(layers_) <= layer) {
      layers_.emplace_back(shape, budget_, num_prompt);
    }
    return layers_[static_cast<size_t>(layer)];
  }

 private:
  const PaperBudget budget_;
  std::vector<int32_t> ends_;  // positions, ascending
  std::vector<PaperLayer> layers_;
  ReadCounts counts_;
};

PaperState& StateOf(CachedSequence& sequence) {
  return static_cast<PaperState&>(*sequence.policy_state);
}

// Positions, ascending, as pages and masks.
ChosenPages PagesOf(std::span<const int32_t> positions) {
  ChosenPages chosen;
  for (const int32_t position : positions) {
    const auto page = static_cast<int32_t>(position / kPageTokens);
    if (chosen.pages.empty() || chosen.pages.back() != page) {
      chosen.pages.push_back(page);
      chosen.masks.push_back(0);
    }
    chosen.masks.back() = static_cast<uint16_t>(chosen.masks.back() |
                                                1u << (position % kPageTokens));
  }
  chosen.num_tokens = std::ssize(positions);
  return chosen;
}

// What the rows of a step attend to, in one layer.
struct PaperRows {
  std::vector<ExactRows> exact;
  std::deque<ChosenPages> pages;  // of `chosen`, which points to them
  std::vector<ChosenRow> chosen;
};

class SentencePaperPolicy final : public KvPolicy {
 public:
  SentencePaperPolicy(const ModelShape& shape, std::vector<int32_t> end_ids)
      : shape_(shape), end_ids_(std::move(end_ids)) {
    std::ranges::sort(end_ids_);
  }

  std::string_view name() const override { return "sentence-paper"; }
  std::unique_ptr<PolicyState> NewState(
      const KvOptions& options) const override {
    return std::make_unique<PaperState>(options);
  }
  // The queries of the window are not in the pool.
  int64_t num_replayed() const override { return kPaperWindow; }

  absl::Status OnReuse(KvMemory& memory, CachedSequence& sequence,
                       std::span<const int32_t> tokens) override;
  void OnAppend(std::span<const StepSequence> sequences) override;
  absl::Status Attend(KvMemory& memory, const AttendInput& input) override;
  void OnRelease(CachedSequence&) override {}
  const ReadTotals* read_totals() const override { return &totals_; }

 private:
  // Everything but attention itself, for one sequence.
  absl::Status AttendSequence(KvMemory& memory, const AttendInput& input,
                              size_t index, PaperRows* out);

  const ModelShape shape_;
  std::vector<int32_t> end_ids_;  // ascending
  ReadTotals totals_;
};

absl::Status SentencePaperPolicy::OnReuse(KvMemory&, CachedSequence& sequence,
                                          std::span<const int32_t> tokens) {
  const int64_t most = std::max<int64_t>(sequence.num_prompt - kPaperWindow, 0);
  if (std::ssize(tokens) > most) {
    return absl::FailedPreconditionError(fmt::format(
        "sentence-paper: of a prompt of {} tokens at most {} can be reused, "
        "got {}",
        sequence.num_prompt, most, tokens.size()));
  }
  StateOf(sequence).AddTokens(0, tokens, end_ids_);
  return absl::OkStatus();
}

void SentencePaperPolicy::OnAppend(std::span<const StepSequence> sequences) {
  for (const StepSequence& step : sequences) {
    StateOf(*step.sequence)
        .AddTokens(step.sequence->num_tokens, step.tokens, end_ids_);
  }
}

absl::Status SentencePaperPolicy::AttendSequence(KvMemory& memory,
                                                 const AttendInput& input,
                                                 size_t index, PaperRows* out) {
  CachedSequence& sequence = *input.sequences[index].sequence;
  KvSequence rows = input.kv_sequences[index];
  const PaperLayerView view = {memory, input.layer, sequence, input.scale};
  PaperState& state = StateOf(sequence);
  PaperLayer& layer = state.layer(input.layer, shape_, sequence.num_prompt);
  const int64_t row_width =
      (input.num_heads + 2 * shape_.num_kv_heads) * shape_.head_dim;
  const int64_t end = rows.position + rows.num_rows;
  std::vector<std::vector<int32_t>> selected;
  for (int64_t position = rows.position; position < end; ++position) {
    const int64_t row = rows.row_begin + position - rows.position;
    const float* query = input.qkv + row * row_width;
    if (position < sequence.num_prompt) {
      SKV_RETURN_IF_ERROR(
          layer.AddPromptQuery(memory.backend(), query, position));
      if (position + 1 == sequence.num_prompt) {
        SKV_RETURN_IF_ERROR(layer.KeepPrompt(view, state.ends()));
      }
      continue;
    }
    SKV_RETURN_IF_ERROR(layer.Decode(view, query, position,
                                     state.EndsSentence(position), &selected));
    totals_.counts += state.AddSelection(input.layer, selected);
    for (size_t g = 0; g < selected.size(); ++g) {
      out->pages.push_back(PagesOf(selected[g]));
      out->chosen.push_back(
          {&sequence, row, static_cast<int64_t>(g), &out->pages.back()});
    }
  }
  rows.num_rows = std::min(end, sequence.num_prompt) - rows.position;
  if (rows.num_rows > 0) out->exact.push_back({&sequence, rows});
  return absl::OkStatus();
}

absl::Status SentencePaperPolicy::Attend(KvMemory& memory,
                                         const AttendInput& input) {
  PaperRows rows;
  for (size_t i = 0; i < input.sequences.size(); ++i) {
    SKV_RETURN_IF_ERROR(AttendSequence(memory, input, i, &rows));
  }
  SKV_RETURN_IF_ERROR(AttendExactly(memory, input, rows.exact));
  return AttendToChosen(memory, input, rows.chosen);
}

}  // namespace

std::vector<int32_t> PaperSentenceEnds(const Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  for (const std::string_view mark : kEndMarks) {
    const std::optional<int32_t> id = tokenizer.FindLiteral(mark);
    if (id.has_value()) ids.push_back(*id);
  }
  return ids;
}

std::unique_ptr<KvPolicy> MakeSentencePaperPolicy(
    const ModelShape& shape, std::vector<int32_t> sentence_ends) {
  return std::make_unique<SentencePaperPolicy>(shape, std::move(sentence_ends));
}

absl::Status ValidateSentencePaperOptions(const KvOptions& options) {
  if (options.trace_sources != 0) {
    return absl::InvalidArgumentError(
        "output.sentence_trace: policy sentence-paper keeps no trace");
  }
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (BudgetOf(options) < kPaperLeastBudget || BudgetOf(options) > kMost) {
    return absl::InvalidArgumentError(fmt::format(
        "kv.token_budget: policy sentence-paper needs {} to {} tokens, got {}",
        kPaperLeastBudget, kMost, options.token_budget));
  }
  // Written so that NaN fails.
  if (!(FactorOf(options) >= 1 && FactorOf(options) <= kMostFactor)) {
    return absl::InvalidArgumentError(fmt::format(
        "kv.semantic_factor: policy sentence-paper needs 1 to {}, got {}",
        kMostFactor, options.semantic_factor));
  }
  return absl::OkStatus();
}

}  // namespace sentencekv
