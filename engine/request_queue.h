// The inbox of the engine: where RPC threads leave requests, and where the
// engine thread sleeps. One of the two places where threads cross (the other
// is TokenStream, the outbox).
//
// It knows every live request from Submit to its end: by id, for Cancel and to
// refuse duplicates; and how many wait, to refuse when that are too many.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/clock.h"
#include "engine/engine_observer.h"
#include "engine/request.h"
#include "engine/token_stream.h"

namespace sentencekv {

// Called once: with the tokens that were dropped, or kUnavailable when the
// engine has stopped.
using ResetCallback = std::function<void(absl::StatusOr<int64_t>)>;

struct RequestQueueLimits {
  int64_t max_waiting = 256;
  int64_t max_waiting_tokens = 1 << 20;
  size_t outbox_capacity = 256;
};

// An accepted request on its way to the engine thread.
struct Submission {
  GenerateRequest request;
  std::shared_ptr<TokenStream> stream;
  int64_t arrival = 0;  // counts accepted requests
  absl::Time submitted;
};

// Thread-safe. Held by shared_ptr: the streams wake the engine through a weak
// reference, since a reader may outlive the engine.
class RequestQueue : public std::enable_shared_from_this<RequestQueue> {
 public:
  struct Counts {
    int64_t waiting = 0;  // accepted, not yet scheduled
    int64_t waiting_tokens = 0;
    bool draining = false;
  };

  // `clock` must outlive the queue.
  RequestQueue(const RequestQueueLimits& limits, const Clock& clock);

  // --- any thread ---

  // Accepts a valid request, or refuses with the status that Engine::Submit
  // documents and says in *reason why.
  absl::StatusOr<std::shared_ptr<TokenStream>> Push(GenerateRequest request,
                                                    RefusalReason* reason);
  absl::Status Cancel(std::string_view request_id);
  // Asks for a reset of the prefix cache. `done` is called by the engine thread
  // before its next step, or by the one who stops it.
  void PushReset(ResetCallback done);
  // Makes WaitForWork return.
  void Wake();
  void BeginDrain();
  bool AwaitIdle(absl::Duration timeout);
  // Drains, and asks the engine thread to end everything and return.
  void RequestStop();
  Counts counts() const;

  // --- engine thread ---

  // Takes what came, in order of arrival.
  std::vector<Submission> TakeAll();
  std::vector<ResetCallback> TakeResets();
  // Blocks until something came, Wake, RequestStop, or `deadline`. What came
  // since the last TakeAll counts.
  void WaitForWork(absl::Time deadline);
  bool stop_requested() const;
  // The request is scheduled for the first time, or ends without having been:
  // it does not wait any more.
  void LeaveWaiting(int64_t prompt_tokens);
  // The id may be used again. Called before the last event is pushed, so that
  // who has read it may submit the same id.
  void ReleaseId(const std::string& request_id);
  // Called after `count` last events were pushed: they are no longer live.
  void MarkEnded(int64_t count);

 private:
  // Why a request cannot be taken now; OK when it can.
  absl::Status CheckRoom(const GenerateRequest& request,
                         RefusalReason* reason) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const RequestQueueLimits limits_;
  const Clock& clock_;
  mutable absl::Mutex mutex_;
  absl::CondVar work_;
  absl::CondVar idle_;
  std::vector<Submission> incoming_ ABSL_GUARDED_BY(mutex_);
  std::vector<ResetCallback> resets_ ABSL_GUARDED_BY(mutex_);
  // By request id. A stream here has not had its last event.
  std::unordered_map<std::string, std::shared_ptr<TokenStream>> live_
      ABSL_GUARDED_BY(mutex_);
  int64_t num_accepted_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t num_live_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t waiting_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool stop_requested_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sentencekv
