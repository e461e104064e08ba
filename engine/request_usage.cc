#include "engine/request_usage.h"

#include <algorithm>

namespace sentencekv {
namespace {

// Sentences, tokens attended, overlap.
void AddReadUsage(const ActiveRequest& request, Usage* usage) {
  if (request.lease == nullptr) return;
  const PolicyState* state = request.lease->sequence().policy_state.get();
  const ReadCounts* counts = state == nullptr ? nullptr : state->read_counts();
  if (counts != nullptr) {
    usage->sentences_indexed = state->index_size().sentences;
    usage->tokens_attended_per_step = counts->TokensPerStep();
    usage->selection_overlap = counts->Overlap();
    return;
  }
  // The steps after the first token attended to num_prompt + 1, + 2, ...
  const int64_t num_generated = request.num_tokens() - request.num_prompt();
  if (num_generated < 2) return;
  usage->tokens_attended_per_step = static_cast<double>(request.num_prompt()) +
                                    static_cast<double>(num_generated) / 2;
}

}  // namespace

Usage UsageOf(const ActiveRequest& request, absl::Time now) {
  Usage usage;
  usage.prompt_tokens = request.num_prompt();
  usage.cached_tokens = request.cached_tokens;
  usage.generated_tokens = request.answer.num_generated();
  usage.preemptions = request.preemptions;
  usage.total_time = now - request.submitted;
  if (request.was_scheduled()) {
    usage.queue_time = request.first_scheduled - request.submitted;
    usage.prefill_time =
        std::min(request.first_token, now) - request.first_scheduled;
  } else {
    usage.queue_time = usage.total_time;
  }
  AddReadUsage(request, &usage);
  if (request.lease != nullptr &&
      request.lease->sequence().residency != nullptr) {
    usage.bytes_streamed =
        request.lease->sequence().residency->bytes_streamed();
  }
  return usage;
}

}  // namespace sentencekv
