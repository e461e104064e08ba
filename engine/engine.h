// The engine seam: what the server sees of everything below it.
// Real: LlmEngine (llm_engine.h). Test double: FakeEngine
// (tests/support/fake_engine.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine_observer.h"
#include "engine/model.h"
#include "engine/request.h"
#include "engine/token_stream.h"

namespace sentencekv {

// Thread-safe.
class Engine {
 public:
  virtual ~Engine() = default;

  virtual const ModelInfo& model_info() const = 0;
  // Longest prompt plus answer that a request may take, in tokens: the smaller
  // of the model's context and what the page pool can hold.
  virtual int64_t max_request_tokens() const = 0;

  // Accepts or refuses at once; never blocks on the model.
  //   kInvalidArgument    the prompt does not fit, or an option is out of range
  //   kResourceExhausted  the queue is full; retry later
  //   kUnavailable        draining
  //   kDeadlineExceeded   the deadline has passed
  //   kAlreadyExists      request_id belongs to a live request
  virtual absl::StatusOr<std::shared_ptr<TokenStream>> Submit(
      GenerateRequest request) = 0;

  // Ends a live request; kNotFound when there is none of this id.
  virtual absl::Status Cancel(std::string_view request_id) = 0;

  // Forgets the cached prefixes that no request uses now. `done` gets the
  // number of tokens they held, or kUnavailable after Stop; it is called once,
  // from any thread, and must be quick.
  virtual void ResetPrefixCache(
      std::function<void(absl::StatusOr<int64_t>)> done) = 0;

  virtual EngineStats stats() const = 0;

  // From now on Submit refuses with kUnavailable. Idempotent.
  virtual void BeginDrain() = 0;
  // Waits until nothing runs; false when `timeout` passed first.
  virtual bool AwaitIdle(absl::Duration timeout) = 0;
  // Ends every live request with kCancelled and stops the engine thread.
  virtual void Stop() = 0;
};

}  // namespace sentencekv
