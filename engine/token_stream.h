// The outbox of one request: the engine publishes, an RPC reads. One of the
// two places where threads cross (the other is RequestQueue, the inbox).
//
// Shared by the engine and one reader, each through its own methods; the two
// sides may be different threads. A stream ends with exactly one event that
// carries a Finish.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/request.h"

namespace sentencekv {

class TokenStream {
 public:
  // `capacity`: events held for a reader that lags; at least 1.
  // `on_attention` tells the engine that it has reason to look: the reader
  // cancelled, or made room in a full outbox. Called without the lock, from
  // the reader's thread, and not after the Finish was pushed; may be null.
  TokenStream(std::string request_id, size_t capacity,
              std::function<void()> on_attention = nullptr);

  const std::string& request_id() const { return request_id_; }

  // --- reader ---

  // `on_ready` is called without the lock, from the engine thread or from this
  // call, each time the stream goes from empty to not empty. It must only post
  // work; it may call TryPop. Set once.
  void SetReadyCallback(std::function<void()> on_ready);
  // The next event, or nothing when there is none now.
  std::optional<StreamEvent> TryPop();
  // Blocks for the next event; nothing when `timeout` passed or the stream has
  // ended.
  std::optional<StreamEvent> Pop(absl::Duration timeout);
  // Asks the engine to end this request; idempotent, from any thread. The last
  // event still comes.
  void Cancel();

  // --- engine ---

  // False when the outbox is full: the event was not taken and the engine
  // holds the request back. An event with a Finish is always taken, and is the
  // last: pushing after it is a broken invariant.
  bool Push(StreamEvent&& event);
  bool full() const;
  bool cancelled() const;

 private:
  std::optional<StreamEvent> PopLocked(std::function<void()>* on_attention)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool PopWouldReturn() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !events_.empty() || finished_;
  }

  const std::string request_id_;
  const size_t capacity_;
  mutable absl::Mutex mutex_;
  std::deque<StreamEvent> events_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> on_attention_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> on_ready_ ABSL_GUARDED_BY(mutex_);
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sentencekv
