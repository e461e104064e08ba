// The engine's work, a step at a time, without its thread: LlmEngine calls it
// from the engine thread, tests from their own.
//
// A step, in this order:
//   end       requests that were cancelled, are past their deadline, or whose
//             reader has not read for too long
//   plan      what to compute (Scheduler::Plan)
//   commit    preempt, admit, reserve pages (Scheduler::Commit)
//   forward   Model::Forward; complete pages go to the prefix cache
//   sample    next tokens, text, ends
//   publish   counts first, then events
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "cache/kv_cache.h"
#include "engine/active_request.h"
#include "engine/clock.h"
#include "engine/engine_observer.h"
#include "engine/llm_engine.h"
#include "engine/model.h"
#include "engine/request_queue.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {

// What the engine works with; all is borrowed.
struct EngineParts {
  Model& model;
  const Tokenizer& tokenizer;
  KvCache& cache;
  const Clock& clock;
  RequestQueue& queue;
  EngineObserver* observer = nullptr;  // may be null
};

// One thread at a time, but for stats().
class EngineCore {
 public:
  // `options` must be valid for the model (see MakeLlmEngine).
  EngineCore(const LlmEngineOptions& options, int64_t max_request_tokens,
             const EngineParts& parts);
  // REQUIRES: EndAll, or every request has ended.
  ~EngineCore();

  // Takes what is in the queue and runs one step. False when there was nothing
  // to do: the caller may wait until NextDeadline.
  bool Step();
  // When Step has something to do although nothing comes in: the next deadline
  // of a request, or of a reader that lags.
  absl::Time NextDeadline() const;
  // Ends every request with kCancelled and `status`.
  void EndAll(const absl::Status& status);

  // Any thread.
  EngineStats stats() const;

 private:
  // The event that a request's step gives.
  struct Outgoing {
    std::shared_ptr<TokenStream> stream;
    StreamEvent event;
  };

  void ResetPrefixesIfAsked();
  void TakeSubmissions();
  void EndOverdue(absl::Time now);
  absl::Status Forward(const StepPlan& plan, std::span<const float>* logits);
  void MarkScheduled(const StepPlan& plan, absl::Time now);
  void TakeLogits(const StepPlan& plan, std::span<const float> logits);
  // One share's rows: prompt log-probabilities, then the next token.
  void TakeRows(const StepShare& share, std::span<const float> rows);
  // Ends the requests of a step that was not computed.
  void FailStep(const StepPlan& plan, const absl::Status& status);
  void AddToken(ActiveRequest& request, GeneratedToken token);
  // Takes the request out of the engine; `event` becomes its last one.
  void End(ActiveRequest* request, Finish finish, StreamEvent event);
  void EndWith(ActiveRequest* request, FinishReason reason,
               const absl::Status& status);
  void PublishCounts();
  void Publish();
  void Observe(const StepPlan& plan, const StepStats& times);

  const LlmEngineOptions options_;
  const int64_t max_request_tokens_;
  const EngineParts parts_;
  Scheduler scheduler_;
  SamplerWorkspace workspace_;
  std::vector<ForwardSequence> batch_;
  std::vector<Outgoing> outgoing_;
  int64_t num_ended_ = 0;  // last events in outgoing_
  absl::Time now_;         // of the step's results

  mutable absl::Mutex stats_mutex_;
  EngineStats stats_ ABSL_GUARDED_BY(stats_mutex_);
  EngineStats counts_;  // the engine thread's own, published after each step
};

}  // namespace sentencekv
