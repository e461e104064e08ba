#include "engine/answer.h"

#include <algorithm>
#include <utility>

#include "kernels/check.h"

namespace sentencekv {

Answer::Answer(const GenerateRequest& request, const Tokenizer& tokenizer,
               int64_t max_generated)
    : request_(request),
      max_generated_(max_generated),
      stop_ids_(request.stop.stop_token_ids),
      decoder_(tokenizer, request.output.render_special,
               /*at_text_start=*/request.output.echo),
      matcher_(request.stop.stop_strings) {
  SKV_CHECK(max_generated >= 1);
  if (!request.stop.ignore_eos) {
    const std::span<const int32_t> own = tokenizer.stop_ids();
    stop_ids_.insert(stop_ids_.end(), own.begin(), own.end());
  }
  if (request.output.echo) {
    // The answer's decoder takes the prompt too: a code point may begin in the
    // prompt and end in the answer.
    for (const int32_t id : request.prompt) echo_ += decoder_.Append(id);
  }
}

std::span<const int32_t> Answer::forbidden() const {
  if (num_generated_ >= request_.stop.min_tokens) return {};
  return stop_ids_;
}

std::optional<Finish> Answer::Append(GeneratedToken token, StreamEvent* event) {
  const int32_t id = token.id;
  event->text += std::exchange(echo_, {});
  event->tokens.push_back(std::move(token));
  ++num_generated_;

  Finish finish;
  if (std::find(stop_ids_.begin(), stop_ids_.end(), id) != stop_ids_.end()) {
    finish.reason = FinishReason::kStop;
    finish.stop_token_id = id;
    return finish;
  }
  const std::string text = decoder_.Append(id);
  if (num_generated_ < request_.stop.min_tokens) {
    // Stop strings are looked for from the text of token number min_tokens on.
    event->text += text;
  } else if (Write(text, event)) {
    finish.reason = FinishReason::kStop;
    finish.stop_string = matched_;
    return finish;
  }
  if (num_generated_ == max_generated_) {
    finish.reason = FinishReason::kLength;
    return finish;
  }
  return std::nullopt;
}

bool Answer::Write(std::string_view text, StreamEvent* event) {
  matched_ =
      matcher_.Append(text, request_.stop.include_stop_string, &event->text);
  return matched_.has_value();
}

void Answer::Close(StreamEvent* event) {
  event->text += std::exchange(echo_, {});
  if (matched_.has_value()) return;
  if (!Write(decoder_.Finish(), event)) matcher_.Flush(&event->text);
}

}  // namespace sentencekv
