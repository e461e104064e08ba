// A request inside the engine, from the queue to its end. Engine thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cache/kv_cache.h"
#include "engine/answer.h"
#include "engine/request.h"
#include "engine/request_queue.h"
#include "engine/sampler.h"
#include "engine/token_stream.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {

// Waiting while it has no lease; then prefilling until K and V of all tokens
// but the newest generated one are in the cache, then decoding. Preemption
// takes the lease and nothing else: tokens, sampler and answer go on where they
// were once the tokens are computed again.
struct ActiveRequest {
  // REQUIRES: the submission is valid (ValidateRequest) and has a seed.
  ActiveRequest(Submission submission, const Tokenizer& tokenizer,
                int64_t max_request_tokens);
  ActiveRequest(const ActiveRequest&) = delete;
  ActiveRequest& operator=(const ActiveRequest&) = delete;

  int64_t num_prompt() const {
    return static_cast<int64_t>(request.prompt.size());
  }
  // Tokens that the cache policy takes for the prompt.
  int64_t num_read_as_prompt() const {
    return num_prompt() - request.kv.forced_tokens;
  }
  // The row that scores the next prompt token: the one before it. Forced tokens
  // are the only ones scored where there are any. From num_prompt() - 1 on
  // nothing is left to score.
  int64_t next_scoring_row() const {
    const int64_t first =
        request.kv.forced_tokens > 0 ? num_read_as_prompt() - 1 : 0;
    return first + static_cast<int64_t>(prompt_logprobs.size());
  }
  int64_t num_tokens() const { return static_cast<int64_t>(tokens.size()); }
  // Tokens whose K and V are in the cache.
  int64_t num_computed() const {
    return lease == nullptr ? 0 : lease->sequence().num_tokens;
  }
  // Tokens that must be computed before the next one can be sampled; >= 1.
  int64_t num_missing() const { return num_tokens() - num_computed(); }
  bool decoding() const {
    return lease != nullptr && num_tokens() > num_prompt() &&
           num_missing() == 1;
  }
  // Rows of logits wanted from a step that computes `count` tokens from
  // position `begin` on: always the last so many of them. Prompt
  // log-probabilities want a row for each prompt token not yet scored; sampling
  // wants the row of the last token.
  int64_t LogitsWanted(int64_t begin, int64_t count) const;
  // Tokens, from the first on, whose rows nobody wants any more: so many may be
  // reused instead of computed.
  int64_t max_reusable() const;

  // Scores prompt tokens by the rows of logits that a step gave, [rows, V], the
  // last of them that of the newest computed token. Nothing when no scores are
  // wanted.
  absl::Status ScorePrompt(std::span<const float> rows, size_t vocab_size);
  // Has had pages at least once.
  bool was_scheduled() const {
    return first_scheduled != absl::InfiniteFuture();
  }

  const GenerateRequest request;
  const std::shared_ptr<TokenStream> stream;
  const int64_t arrival;
  const absl::Time submitted;

  std::vector<int32_t> tokens;  // the prompt, then what was generated
  std::unique_ptr<SequenceLease> lease;
  Answer answer;
  Sampler sampler;
  std::vector<TokenLogprob> prompt_logprobs;  // of tokens 1, 2, ...

  // Generated tokens before this position are traced, if a trace is wanted.
  int64_t traced_end = 0;

  // The stream was full when the step began: not scheduled. Since when.
  bool held_back = false;
  absl::Time held_since = absl::InfiniteFuture();
  int64_t last_step = -1;     // number of the last step that computed any of it
  int64_t cached_tokens = 0;  // of the prompt, reused at its first admission

  absl::Time first_scheduled = absl::InfiniteFuture();
  absl::Time first_token = absl::InfiniteFuture();
  absl::Time last_token = absl::InfiniteFuture();
  int64_t preemptions = 0;
};

}  // namespace sentencekv
