// `full`: exact attention over every token.
#include <vector>

#include "absl/status/status.h"
#include "cache/kv_policy.h"
#include "fmt/format.h"

namespace sentencekv {
namespace {

class FullPolicy final : public KvPolicy {
 public:
  std::string_view name() const override { return "full"; }

  std::unique_ptr<PolicyState> NewState(const KvOptions&) const override {
    return nullptr;
  }
  int64_t NumExact(const CachedSequence& sequence) const override {
    return sequence.num_tokens;
  }
  void OnAppend(std::span<const StepSequence>) override {}

  absl::Status Attend(KvMemory& memory, const AttendInput& input) override {
    rows_.clear();
    for (size_t i = 0; i < input.sequences.size(); ++i) {
      rows_.push_back({input.sequences[i].sequence, input.kv_sequences[i]});
    }
    return AttendExactly(memory, input, rows_);
  }

  void OnRelease(CachedSequence&) override {}

 private:
  std::vector<ExactRows> rows_;  // of one call of Attend; kept for its memory
};

}  // namespace

std::unique_ptr<KvPolicy> MakeFullPolicy() {
  return std::make_unique<FullPolicy>();
}

absl::Status ValidateFullOptions(const KvOptions& options) {
  if (options.token_budget != 0) {
    return absl::InvalidArgumentError(
        fmt::format("kv.token_budget: policy full attends to every token and "
                    "takes no budget, got {}",
                    options.token_budget));
  }
  if (options.semantic_factor != 0) {
    return absl::InvalidArgumentError(
        fmt::format("kv.semantic_factor: policy full takes none, got {}",
                    options.semantic_factor));
  }
  return absl::OkStatus();
}

}  // namespace sentencekv
