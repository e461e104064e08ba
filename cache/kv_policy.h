// The cache-policy seam: which of a sequence's tokens a query attends to.
//
// A policy is one file. It sees a step in this order, from the engine thread:
//
//   OnReuse    the sequence begins with tokens whose K and V are in the pool
//   OnAppend   tokens are about to be computed (segmentation looks at them)
//   Attend     once per layer: K and V of the step's tokens are written, q is
//              turned; the policy selects and runs attention
//   OnComputed the host has waited for what Attend submitted
//   OnRelease  the sequence is gone
//
// `full` attends to everything. A selecting policy keeps its state per
// sequence in a PolicyState of its own, created by NewState.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/cached_sequence.h"
#include "cache/kv_memory.h"
#include "cache/read_log.h"
#include "kernels/backend.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {

inline constexpr std::string_view kSentencePolicy = "sentence";

// Per-request settings; unset numbers mean the policy's default.
struct KvOptions {
  std::string policy;  // "" means the server's default
  // tau: tokens one decode step may attend to; 0: the policy's default.
  int64_t token_budget = 0;
  // r of sentence-paper; 0: the policy's default.
  double semantic_factor = 0;
  // What the policy sentence can be told besides; docs/sentences.md.
  std::optional<SentenceIndexKind> index_kind;
  std::optional<bool> prior;
  std::optional<int64_t> prior_half_life;  // generated tokens; 0: it stays
  std::optional<double> query_blend;       // 0..1
  std::optional<int64_t> sink_tokens;
  std::optional<int64_t> recent_tokens;
  std::optional<int64_t> dense_tokens;  // contexts up to here are read whole
  std::optional<double> reuse_bonus;    // 0..10
  std::optional<bool> strict;        // false: read what the step before chose
  std::optional<bool> head_budgets;  // false: all heads have the same
  // Last tokens of the prompt that are read as if they had been generated.
  int64_t forced_tokens = 0;
  // The request's pages are neither found in the prefix cache nor left there.
  bool bypass_prefix_cache = false;
  // Prefixes are shared only between requests of equal salt.
  std::string cache_salt;
  // Most sentences that the trace names for each generated one; 0: no trace.
  int32_t trace_sources = 0;
};

// Sizes of the model whose K and V are cached.
struct ModelShape {
  int64_t num_layers = 0;    // L
  int64_t num_heads = 0;     // H
  int64_t num_kv_heads = 0;  // G
  int64_t head_dim = 0;      // D
};

// "mean", "minmax", "sign"; kInvalidArgument for others.
absl::StatusOr<SentenceIndexKind> ParseSentenceIndexKind(std::string_view name);

// What a policy may know of the model it works for.
struct KvPolicyContext {
  const Tokenizer* tokenizer = nullptr;  // outlives the policy; not null
  ModelShape shape;
};

// One sequence's share of a step.
struct StepSequence {
  CachedSequence* sequence = nullptr;
  std::span<const int32_t> tokens;  // at positions sequence->num_tokens ...
  int64_t row_begin = 0;            // first row in the step's tensors
};

// What Attend works on.
struct AttendInput {
  int64_t layer = 0;
  const float* qkv = nullptr;  // [T, (H + 2 G) D], device, q turned
  float* out = nullptr;        // [T, H D], device
  int64_t num_heads = 0;       // H
  float scale = 0;
  // All of this policy, and the same as the backend wants them.
  std::span<const StepSequence> sequences;
  std::span<const KvSequence> kv_sequences;
};

// Rows of one sequence that attend to all tokens up to their own.
struct ExactRows {
  CachedSequence* sequence = nullptr;
  KvSequence rows;  // pages: not read
};

// What one row attends to in one KV head.
struct ChosenRow {
  CachedSequence* sequence = nullptr;
  int64_t row = 0;  // in the step's tensors
  int64_t kv_head = 0;
  const ChosenPages* pages = nullptr;
};

// Attention of a step's rows, in as few pieces as device memory asks for.
// Nothing happens for none.
absl::Status AttendExactly(KvMemory& memory, const AttendInput& input,
                           std::span<const ExactRows> rows);
absl::Status AttendToChosen(KvMemory& memory, const AttendInput& input,
                            std::span<const ChosenRow> rows);

// Engine thread only, but for name.
class KvPolicy {
 public:
  virtual ~KvPolicy() = default;

  virtual std::string_view name() const = 0;
  // REQUIRES: ValidateKvOptions(options).
  virtual std::unique_ptr<PolicyState> NewState(
      const KvOptions& options) const = 0;
  // Last tokens of a prompt that must be computed although their K and V are in
  // the pool: the logits of the last one are wanted, and a policy may want
  // queries. At least 1.
  virtual int64_t num_replayed() const { return 1; }
  // The K and V of `tokens`, at positions 0.., are in the sequence's pages and
  // will not be computed: the policy makes its state from them. Before the
  // first step of a sequence, sequence.num_tokens = tokens.size().
  virtual absl::Status OnReuse(KvMemory& /*memory*/,
                               CachedSequence& /*sequence*/,
                               std::span<const int32_t> /*tokens*/) {
    return absl::OkStatus();
  }
  // Positions, from 0 on, whose K and V are what exact attention computes, bit
  // for bit: only such are offered to other sequences, of whatever policy. A
  // policy that selects while it decodes answers with those of the prompt.
  virtual int64_t NumExact(const CachedSequence& sequence) const {
    return std::min(sequence.num_tokens, sequence.num_prompt);
  }
  // Whether tokens that were generated are computed one a step, as they were
  // first, when they are computed again after a preemption: where their result
  // depends on what was selected then.
  virtual bool repeats_one_by_one() const { return false; }
  virtual void OnAppend(std::span<const StepSequence> sequences) = 0;
  // Before the first layer of a step, with all its sequences of this policy.
  // True: the step is prepared. What its rows want of `memory` has been brought
  // for all layers at once, and `written` is where their K and V go, as
  // KvMemory::BringToWrite gives it, [L][sequences]; operations may be issued
  // after Ready, and Attend issues nothing but what Backend::RunStep takes.
  // False, and always where `written` is null: Attend brings what a layer
  // wants.
  virtual absl::StatusOr<bool> PrepareStep(
      KvMemory& /*memory*/, std::span<const StepSequence> /*sequences*/,
      std::vector<const int32_t*>* /*written*/) {
    return false;
  }
  virtual absl::Status Attend(KvMemory& memory, const AttendInput& input) = 0;
  // After the last layer of a step that this policy has sequences in. An error
  // fails the step, as one of Attend does.
  virtual absl::Status OnComputed(KvMemory& /*memory*/) {
    return absl::OkStatus();
  }
  virtual void OnRelease(CachedSequence& sequence) = 0;
  // Null for a policy whose decode steps attend to the whole context.
  virtual const ReadTotals* read_totals() const { return nullptr; }
};

// Exact attention over every token.
std::unique_ptr<KvPolicy> MakeFullPolicy();
absl::Status ValidateFullOptions(const KvOptions& options);

// The policy named `name`; kInvalidArgument lists the names there are.
absl::StatusOr<std::unique_ptr<KvPolicy>> MakeKvPolicy(
    std::string_view name, const KvPolicyContext& context);
// kInvalidArgument for a policy that does not exist, and with field and value
// for options that the policy does not take. Any thread.
absl::Status ValidateKvOptions(const KvOptions& options);
// Names that MakeKvPolicy takes.
std::span<const std::string_view> KvPolicyNames();

}  // namespace sentencekv
