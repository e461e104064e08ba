#include "engine/active_request.h"

#include <algorithm>
#include <utility>

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

}  // namespace sentencekv
