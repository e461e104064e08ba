#include "engine/active_request.h"

#include <algorithm>
#include <utility>

#include "kernels/check.h"

namespace sentencekv {
namespace {

int64_t MaxGenerated(const GenerateRequest& request,
                     int64_t max_request_tokens) {
  const int64_t room =
      max_request_tokens - static_cast<int64_t>(request.prompt.size());
  const int64_t wanted = request.stop.max_tokens;
  return wanted == 0 ? room : std::min(wanted, room);
}

}  // namespace

ActiveRequest::ActiveRequest(Submission submission, const Tokenizer& tokenizer,
                             int64_t max_request_tokens)
    : request(std::move(submission.request)),
      stream(std::move(submission.stream)),
      arrival(submission.arrival),
      submitted(submission.submitted),
      tokens(request.prompt),
      answer(request, tokenizer, MaxGenerated(request, max_request_tokens)),
      sampler(request.sampling, *request.sampling.seed,
              request.output.num_logprobs, request.prompt) {}

int64_t ActiveRequest::LogitsWanted(int64_t begin, int64_t count) const {
  const int64_t end = begin + count;
  if (request.output.prompt_logprobs) {
    const int64_t row = std::max(begin, next_scoring_row());
    if (row + 1 < num_prompt()) return std::max<int64_t>(end - row, 0);
  }
  return end == num_tokens() ? 1 : 0;
}

int64_t ActiveRequest::max_reusable() const {
  if (request.output.prompt_logprobs && next_scoring_row() + 1 < num_prompt()) {
    return next_scoring_row();
  }
  return num_tokens() - 1;
}

absl::Status ActiveRequest::ScorePrompt(std::span<const float> rows,
                                        size_t vocab_size) {
  if (!request.output.prompt_logprobs) return absl::OkStatus();
  const int64_t num_rows = static_cast<int64_t>(rows.size() / vocab_size);
  int64_t position = num_computed() - num_rows;
  for (; !rows.empty(); rows = rows.subspan(vocab_size), ++position) {
    if (position + 1 >= num_prompt()) break;
    SKV_CHECK(position == next_scoring_row());
    const int32_t id = tokens[static_cast<size_t>(position) + 1];
    const auto logprob = LogprobOf(rows.first(vocab_size), id);
    if (!logprob.ok()) return logprob.status();
    prompt_logprobs.push_back({id, *logprob});
  }
  return absl::OkStatus();
}

}  // namespace sentencekv
