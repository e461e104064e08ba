// The real engine: one thread that owns scheduler, cache, sequences and
// backend, and runs a step at a time: plan, forward, sample, publish.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "cache/kv_memory.h"
#include "cache/kv_policy.h"
#include "engine/clock.h"
#include "engine/engine.h"
#include "engine/engine_observer.h"
#include "engine/model.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {

struct LlmEngineOptions {
  // Tokens of one step, decode and prefill together: bounds how long a step,
  // and so the gap between tokens of running requests, can be.
  int64_t max_step_tokens = 256;
  // Prompt tokens of one step while any request is decoding.
  int64_t max_prefill_tokens_beside_decode = 64;
  // Longest prompt plus answer, where that is less than the model's context
  // and the pool; 0: no other bound.
  int64_t max_request_tokens = 0;
  int64_t max_running = 64;   // requests with pages
  int64_t max_waiting = 256;  // queue; beyond it Submit refuses
  int64_t max_waiting_tokens = 1 << 20;
  size_t outbox_capacity = 256;  // events held for a reader that lags
  absl::Duration outbox_timeout =
      absl::Seconds(30);  // full for so long: aborted
  std::string default_kv_policy = "full";
  // Requests reuse the K and V of prompts and answers before them.
  bool prefix_cache = true;
  // Called from the engine thread when a step fails because the device is lost
  // (kDataLoss): every later step will fail too. May be called more than once.
  std::function<void(const absl::Status&)> on_device_lost;
};

// Starts the engine thread. All references must outlive the engine; `observer`
// may be null. The model's own limits bound a step too, where they are smaller
// than max_step_tokens. kInvalidArgument with field and value for options out
// of range. Stop and the destructor wait for the engine thread: they must not
// be called from a stream's ready callback.
absl::StatusOr<std::unique_ptr<Engine>> MakeLlmEngine(
    const LlmEngineOptions& options, Model& model, const Tokenizer& tokenizer,
    KvMemory& memory, const Clock& clock, EngineObserver* observer);

}  // namespace sentencekv
