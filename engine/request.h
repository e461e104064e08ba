// A generation request as the engine takes it, and what it answers.
// Bounds are checked by the server's validation table before this is made.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cache/kv_policy.h"
#include "cache/read_log.h"

namespace sentencekv {

// How the next token is chosen from float logits, in this order: penalties and
// bias, temperature, top-k, top-p, min-p, draw.
struct SamplingParams {
  float temperature = 1.0f;  // 0: greedy, lowest id on ties
  int32_t top_k = 0;         // 0: off
  float top_p = 1.0f;        // 1: off. https://arxiv.org/abs/1904.09751
  float min_p = 0.0f;        // 0: off. https://arxiv.org/abs/2407.01082
  // Over prompt and generated tokens. https://arxiv.org/abs/1909.05858
  float repetition_penalty = 1.0f;
  float frequency_penalty = 0.0f;  // per occurrence among generated tokens
  float presence_penalty = 0.0f;   // once per distinct generated token
  // Token id, and what is added to its logit.
  std::vector<std::pair<int32_t, float>> logit_bias;
  // Same seed, same prompt, same text, whatever else runs. Unset: drawn per
  // request.
  std::optional<uint64_t> seed;
};

struct StopParams {
  int32_t max_tokens = 0;  // generated tokens; 0: what the context leaves
  // No stop token before this many; stop strings are looked for in the text
  // from token number min_tokens on.
  int32_t min_tokens = 0;
  std::vector<std::string> stop_strings;
  std::vector<int32_t> stop_token_ids;  // beside the tokenizer's own
  // The tokenizer's stop ids do not stop, nor does min_tokens forbid them.
  bool ignore_eos = false;
  bool include_stop_string = false;  // leave the stop string in the text
};

struct OutputParams {
  // -1: none; 0: the chosen token's; n: and the n highest.
  int32_t num_logprobs = -1;
  // Log-probability of each prompt token but the first; of the forced ones only
  // where there are any.
  bool prompt_logprobs = false;
  bool echo = false;            // the prompt's text comes first
  bool render_special = false;  // control tokens appear in the text
};

struct GenerateRequest {
  // Unique among live requests; "" lets the engine make one.
  std::string request_id;
  std::vector<int32_t> prompt;  // at least one token
  SamplingParams sampling;
  StopParams stop;
  OutputParams output;
  KvOptions kv;
  absl::Time deadline = absl::InfiniteFuture();
};

struct TokenLogprob {
  int32_t token_id = 0;
  float logprob = 0;  // natural logarithm, of the model's softmax before
                      // temperature and filters
};

struct GeneratedToken {
  int32_t id = 0;
  std::optional<float> logprob;
  std::vector<TokenLogprob> top_logprobs;  // highest first
};

enum class FinishReason : uint8_t {
  kStop,       // a stop token or string
  kLength,     // max_tokens or the context's end
  kCancelled,  // by the client, or a drain that ran out of time
  kDeadline,
  kError,
};

std::string_view Name(FinishReason reason);

// Counts of one request, final in the last event.
struct Usage {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;     // prompt tokens whose K and V were reused
  int64_t generated_tokens = 0;  // with a stop token, if one ended the text
  int64_t preemptions = 0;
  int64_t sentences_indexed = 0;
  // Mean over decode steps, layers and KV heads.
  double tokens_attended_per_step = 0;
  // Share of the sentences chosen that the step before had chosen too.
  double selection_overlap = 0;
  int64_t bytes_streamed = 0;   // to the device; 0 where K and V are in place
  absl::Duration queue_time;    // submitted to first scheduled
  absl::Duration prefill_time;  // first scheduled to first token
  absl::Duration total_time;    // submitted to finished
};

struct Finish {
  FinishReason reason = FinishReason::kStop;
  absl::Status status;  // not OK for kCancelled, kDeadline, kError
  std::optional<int32_t> stop_token_id;  // what matched, for kStop
  std::optional<std::string> stop_string;
  Usage usage;
};

// A sentence of the context that a generated one was read from.
struct SourceReads : ReadSource {
  bool generated = false;  // of the answer, not of the prompt
  std::string text;
};

// A generated sentence, and what it was read from.
struct SentenceReads {
  int64_t begin = 0;  // positions of its generated tokens
  int64_t end = 0;
  std::string text;
  // (step, layer, KV head) that chose sentences; 0: each of its tokens was
  // read from the whole context, and there are no sources.
  int64_t num_selections = 0;
  std::vector<SourceReads> sources;  // by falling share
};

// One message of a request's answer. Text and tokens are increments; the text
// may lag behind the tokens (a code point or a possible stop string is held
// back), and the last event carries the rest.
struct StreamEvent {
  std::string text;
  std::vector<GeneratedToken> tokens;
  // In the event of the first token, when asked for.
  std::vector<TokenLogprob> prompt_logprobs;
  // When a sentence of the answer has ended, the last one in the last event;
  // when asked for (KvOptions::trace_sources).
  std::vector<SentenceReads> reads;
  std::optional<Finish> finish;  // in the last event, exactly once
};

}  // namespace sentencekv
