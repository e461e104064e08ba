#include "server/client/answer.h"

#include <utility>

#include "fmt/format.h"
#include "server/client/sentence_view.h"

namespace sentencekv {
namespace {

nlohmann::json LogprobToJson(const v1::Logprob& logprob) {
  // A token by itself may not be UTF-8; its bytes are exact.
  return {{"token_id", logprob.token_id()},
          {"logprob", logprob.logprob()},
          {"token", logprob.token()},
          {"bytes", std::vector<uint8_t>(logprob.token().begin(),
                                         logprob.token().end())}};
}

nlohmann::json LogprobsToJson(const std::vector<v1::TokenLogprobs>& logprobs) {
  auto array = nlohmann::json::array();
  for (const v1::TokenLogprobs& token : logprobs) {
    nlohmann::json entry = LogprobToJson(token.chosen());
    entry["top"] = nlohmann::json::array();
    for (const v1::Logprob& other : token.top()) {
      entry["top"].push_back(LogprobToJson(other));
    }
    array.push_back(std::move(entry));
  }
  return array;
}

void AddUsage(const v1::Usage& usage, nlohmann::json* json) {
  (*json)["prompt_tokens"] = usage.prompt_tokens();
  (*json)["cached_tokens"] = usage.cached_tokens();
  (*json)["generated_tokens"] = usage.generated_tokens();
  (*json)["queue_ms"] = usage.queue_seconds() * 1e3;
  (*json)["prefill_ms"] = usage.prefill_seconds() * 1e3;
  (*json)["server_ms"] = usage.total_seconds() * 1e3;
  (*json)["preemptions"] = usage.preemptions();
  (*json)["sentences_indexed"] = usage.sentences_indexed();
  (*json)["tokens_attended_per_step"] = usage.tokens_attended_per_step();
  (*json)["selection_overlap"] = usage.selection_overlap();
  (*json)["bytes_streamed"] = usage.bytes_streamed();
}

// Moves what `message` brings into `answer`; its text stays with the caller.
void Take(v1::GenerateResponse&& message, Answer* answer) {
  if (!message.request_id().empty()) {
    answer->request_id = message.request_id();
  }
  if (message.token_ids_size() > 0) {
    answer->token_arrivals.push_back(std::chrono::steady_clock::now());
    answer->token_ids.insert(answer->token_ids.end(),
                             message.token_ids().begin(),
                             message.token_ids().end());
  }
  for (auto& token : *message.mutable_logprobs()) {
    answer->logprobs.push_back(std::move(token));
  }
  for (auto& token : *message.mutable_prompt_logprobs()) {
    answer->prompt_logprobs.push_back(std::move(token));
  }
  for (auto& sentence : *message.mutable_reads()) {
    answer->reads.push_back(std::move(sentence));
  }
  if (message.has_finish()) {
    answer->finish = std::move(*message.mutable_finish());
  }
}

}  // namespace

double MillisecondsBetween(SteadyTime from, SteadyTime to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

std::optional<double> Answer::ttft_ms() const {
  if (token_arrivals.empty()) return std::nullopt;
  return MillisecondsBetween(sent, token_arrivals.front());
}

double Answer::tokens_per_second() const {
  if (token_arrivals.size() < 2) return 0;
  const double decode_ms =
      MillisecondsBetween(token_arrivals.front(), token_arrivals.back());
  if (decode_ms <= 0) return 0;
  return (static_cast<double>(token_ids.size()) - 1) / decode_ms * 1e3;
}

Answer ReadAnswer(v1::SentenceKv::StubInterface& stub,
                  grpc::ClientContext& context,
                  const v1::GenerateRequest& request,
                  const std::function<void(std::string_view)>& on_text) {
  Answer answer;
  answer.sent = std::chrono::steady_clock::now();
  const auto reader = stub.Generate(&context, request);
  v1::GenerateResponse message;
  while (reader->Read(&message)) {
    answer.text += message.text();
    if (on_text && !message.text().empty()) on_text(message.text());
    Take(std::move(message), &answer);
  }
  answer.status = reader->Finish();
  answer.ended = std::chrono::steady_clock::now();
  return answer;
}

std::string_view FinishName(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return "stop";
    case v1::FINISH_REASON_LENGTH:
      return "length";
    case v1::FINISH_REASON_CANCELLED:
      return "cancelled";
    case v1::FINISH_REASON_DEADLINE:
      return "deadline";
    case v1::FINISH_REASON_ERROR:
      return "error";
    default:
      return "unspecified";
  }
}

nlohmann::json AnswerToJson(const Answer& answer) {
  nlohmann::json json = {
      {"request_id", answer.request_id},
      {"text", answer.text},
      {"token_ids", answer.token_ids},
      {"total_ms", answer.total_ms()},
      {"tokens_per_second", answer.tokens_per_second()},
  };
  const std::optional<double> ttft_ms = answer.ttft_ms();
  json["ttft_ms"] =
      ttft_ms.has_value() ? nlohmann::json(*ttft_ms) : nlohmann::json();
  v1::Finish finish;
  if (answer.finish.has_value()) {
    finish = *answer.finish;
  } else {
    // Cut off before the server could say so.
    finish.set_reason(v1::FINISH_REASON_ERROR);
    finish.mutable_usage()->set_generated_tokens(answer.token_ids.size());
  }
  json["finish_reason"] = FinishName(finish.reason());
  if (finish.has_stop_token_id()) {
    json["stop_token_id"] = finish.stop_token_id();
  }
  if (finish.has_stop_string()) json["stop_string"] = finish.stop_string();
  AddUsage(finish.usage(), &json);
  if (!answer.logprobs.empty()) {
    json["logprobs"] = LogprobsToJson(answer.logprobs);
  }
  if (!answer.prompt_logprobs.empty()) {
    auto array = nlohmann::json::array();
    for (const auto& token : answer.prompt_logprobs) {
      array.push_back(LogprobToJson(token));
    }
    json["prompt_logprobs"] = std::move(array);
  }
  if (!answer.reads.empty()) json["sentences"] = ReadsToJson(answer.reads);
  return json;
}

std::string AnswerSummary(const Answer& answer) {
  const v1::Finish finish = answer.finish.value_or(v1::Finish());
  std::string text = fmt::format(
      "{} prompt tokens ({} cached), {} generated in {:.2f} s",
      finish.usage().prompt_tokens(), finish.usage().cached_tokens(),
      answer.token_ids.size(), answer.total_ms() / 1e3);
  if (answer.ttft_ms().has_value()) {
    text += fmt::format(", first after {:.0f} ms", *answer.ttft_ms());
  }
  if (answer.tokens_per_second() > 0) {
    text += fmt::format(", {:.1f} tokens/s", answer.tokens_per_second());
  }
  if (answer.finish.has_value()) {
    text += fmt::format(", {}", FinishName(finish.reason()));
  }
  return text;
}

}  // namespace sentencekv
