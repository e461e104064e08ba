#include "cache/kv_policy.h"

#include <algorithm>
#include <array>
#include <vector>

#include "cache/sentence_paper_policy.h"
#include "cache/sentence_policy.h"
#include "cache/sentence_settings.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "kernels/check.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

struct PolicyEntry {
  std::string_view name;
  std::unique_ptr<KvPolicy> (*make)(const KvPolicyContext& context);
  absl::Status (*validate)(const KvOptions& options);
};

constexpr PolicyEntry kPolicies[] = {
    {"full", [](const KvPolicyContext&) { return MakeFullPolicy(); },
     &ValidateFullOptions},
    {"sentence-paper",
     [](const KvPolicyContext& context) {
       return MakeSentencePaperPolicy(context.shape,
                                      PaperSentenceEnds(*context.tokenizer));
     },
     &ValidateSentencePaperOptions},
    {kSentencePolicy, &MakeSentencePolicy, &ValidateSentenceOptions},
};

constexpr auto kPolicyNames = [] {
  std::array<std::string_view, std::size(kPolicies)> names;
  std::ranges::transform(kPolicies, names.begin(), &PolicyEntry::name);
  return names;
}();

absl::StatusOr<const PolicyEntry*> FindPolicy(std::string_view name) {
  for (const PolicyEntry& entry : kPolicies) {
    if (entry.name == name) return &entry;
  }
  return absl::InvalidArgumentError(
      fmt::format("kv policy: no policy of this name; there are {}; got '{}'",
                  fmt::join(KvPolicyNames(), ", "), name));
}

// Names a setting that only the policy sentence takes, if one is given.
std::optional<std::string_view> SentenceOnlyOption(const KvOptions& options) {
  if (options.index_kind) return "index_kind";
  if (options.prior) return "prior";
  if (options.prior_half_life) return "prior_half_life";
  if (options.query_blend) return "query_blend";
  if (options.sink_tokens) return "sink_tokens";
  if (options.recent_tokens) return "recent_tokens";
  if (options.dense_tokens) return "dense_tokens";
  if (options.reuse_bonus) return "reuse_bonus";
  if (options.strict) return "strict";
  if (options.head_budgets) return "head_budgets";
  return std::nullopt;
}

}  // namespace

absl::StatusOr<SentenceIndexKind> ParseSentenceIndexKind(
    std::string_view name) {
  if (name == "mean") return SentenceIndexKind::kMean;
  if (name == "minmax") return SentenceIndexKind::kMinMax;
  if (name == "sign") return SentenceIndexKind::kSign;
  return absl::InvalidArgumentError(fmt::format(
      "kind of sentence index: must be mean, minmax or sign, got '{}'", name));
}

absl::Status AttendExactly(KvMemory& memory, const AttendInput& input,
                           std::span<const ExactRows> rows) {
  std::vector<KvSequence> sequences;
  for (const ExactRows& one : rows) sequences.push_back(one.rows);
  const auto bring = [&](int64_t i) -> absl::Status {
    KvSequence& sequence = sequences[static_cast<size_t>(i)];
    SKV_ASSIGN_OR_RETURN(
        sequence.pages,
        memory.Bring(input.layer, *rows[static_cast<size_t>(i)].sequence, 0,
                     sequence.position + sequence.num_rows));
    return absl::OkStatus();
  };
  const auto attend = [&](int64_t begin, int64_t end) {
    return memory.backend().Attention({.qkv = input.qkv,
                                       .out = input.out,
                                       .kv = memory.view(input.layer),
                                       .sequences = sequences.data() + begin,
                                       .num_sequences = end - begin,
                                       .num_heads = input.num_heads,
                                       .scale = input.scale});
  };
  return RunInPieces(memory, std::ssize(rows), bring, attend);
}

absl::Status AttendToChosen(KvMemory& memory, const AttendInput& input,
                            std::span<const ChosenRow> rows) {
  std::vector<std::vector<int32_t>> numbers(rows.size());
  std::vector<SelectedTokens> selections(rows.size());
  const auto bring = [&](int64_t i) -> absl::Status {
    const auto index = static_cast<size_t>(i);
    const ChosenRow& row = rows[index];
    SKV_RETURN_IF_ERROR(memory.BringChosen(
        input.layer, row.kv_head, *row.sequence, *row.pages, &numbers[index]));
    selections[index] = {row.row, row.kv_head, numbers[index].data(),
                         row.pages->masks.data(), std::ssize(numbers[index])};
    return absl::OkStatus();
  };
  const auto attend = [&](int64_t begin, int64_t end) {
    return memory.backend().SelectedAttention(
        {.qkv = input.qkv,
         .out = input.out,
         .kv = memory.chosen_view(input.layer),
         .selections = selections.data() + begin,
         .num_selections = end - begin,
         .num_heads = input.num_heads,
         .scale = input.scale});
  };
  return RunInPieces(memory, std::ssize(rows), bring, attend);
}

std::span<const std::string_view> KvPolicyNames() { return kPolicyNames; }

absl::StatusOr<std::unique_ptr<KvPolicy>> MakeKvPolicy(
    std::string_view name, const KvPolicyContext& context) {
  SKV_CHECK(context.tokenizer != nullptr);
  SKV_ASSIGN_OR_RETURN(const PolicyEntry* const entry, FindPolicy(name));
  return entry->make(context);
}

absl::Status ValidateKvOptions(const KvOptions& options) {
  SKV_ASSIGN_OR_RETURN(const PolicyEntry* const entry,
                       FindPolicy(options.policy));
  const std::optional<std::string_view> only = SentenceOnlyOption(options);
  if (only.has_value() && entry->name != kSentencePolicy) {
    return absl::InvalidArgumentError(
        fmt::format("kv.{}: only policy sentence takes it, and this is {}",
                    *only, entry->name));
  }
  return entry->validate(options);
}

}  // namespace sentencekv
