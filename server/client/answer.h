// One Generate call, read to its end.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "grpcpp/client_context.h"
#include "nlohmann/json.hpp"
#include "sentencekv/v1/sentencekv.grpc.pb.h"

namespace sentencekv {

using SteadyTime = std::chrono::steady_clock::time_point;

// Milliseconds from `from` to `to`.
double MillisecondsBetween(SteadyTime from, SteadyTime to);

struct Answer {
  std::string request_id;
  std::string text;
  std::vector<int32_t> token_ids;
  std::vector<v1::TokenLogprobs> logprobs;
  std::vector<v1::Logprob> prompt_logprobs;
  std::vector<v1::SentenceReads> reads;
  std::optional<v1::Finish> finish;  // none when refused or cut off
  grpc::Status status;

  // As this client sees it, the network included.
  SteadyTime sent;
  std::vector<SteadyTime> token_arrivals;  // one per message with token ids
  SteadyTime ended;

  // Sent to first token; nothing when none came.
  std::optional<double> ttft_ms() const;
  double total_ms() const { return MillisecondsBetween(sent, ended); }
  // Tokens after the first, by the time after the first; 0 with fewer than 2.
  double tokens_per_second() const;
};

// Sends `request` and reads all there is. `on_text` (may be null) gets each
// increment of the text as it comes. Blocks; ends early by the context's
// deadline or TryCancel.
Answer ReadAnswer(v1::SentenceKv::StubInterface& stub,
                  grpc::ClientContext& context,
                  const v1::GenerateRequest& request,
                  const std::function<void(std::string_view)>& on_text);

// "stop", "length", "cancelled", "deadline", "error".
std::string_view FinishName(v1::FinishReason reason);

// What `generate --json` prints.
nlohmann::json AnswerToJson(const Answer& answer);

// "12 prompt tokens (0 cached), 64 generated in 1.20 s, first after 35 ms,
// 54.1 tokens/s, stop"
std::string AnswerSummary(const Answer& answer);

}  // namespace sentencekv
