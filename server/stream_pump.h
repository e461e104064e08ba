// One thread that carries engine output to the RPCs that wait for it.
//
// The engine thread only posts "this stream has something"; serialising and
// writing to sockets happens here, so that a step is never held up by a write.
// The same thread watches for readers that do not read.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace sentencekv {

// A stream that can be carried on. Called from the pump's thread.
class PumpedStream {
 public:
  virtual ~PumpedStream() = default;
  // Takes what the engine has published and starts a write, if none is under
  // way.
  virtual void Pump() = 0;
  // Ends the stream when a write has been under way for longer than `timeout`.
  virtual void AbortWhenStalled(absl::Time now, absl::Duration timeout) = 0;
};

// Thread-safe. Must outlive the engine's last callback and every stream.
class StreamPump {
 public:
  // `stall_timeout`: how long a client may leave a message unread.
  explicit StreamPump(absl::Duration stall_timeout);
  ~StreamPump();
  StreamPump(const StreamPump&) = delete;
  StreamPump& operator=(const StreamPump&) = delete;

  // Watches `stream` until Remove. The key stays the caller's.
  void Add(const PumpedStream* key, std::weak_ptr<PumpedStream> stream);
  void Remove(const PumpedStream* key);

  // Has the thread call Pump soon. Cheap; any thread.
  void Post(std::weak_ptr<PumpedStream> stream);

  int64_t num_streams() const;
  // Waits until no stream is left; false when `timeout` passed first.
  bool AwaitNone(absl::Duration timeout) const;

 private:
  void Run();
  void CheckStalls();

  const absl::Duration stall_timeout_;
  mutable absl::Mutex mutex_;
  std::deque<std::weak_ptr<PumpedStream>> posted_ ABSL_GUARDED_BY(mutex_);
  std::map<const PumpedStream*, std::weak_ptr<PumpedStream>> streams_
      ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: starts when everything else is there
};

}  // namespace sentencekv
