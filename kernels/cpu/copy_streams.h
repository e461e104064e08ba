// The streams of a CPU backend that plays a device with memory of its own:
// kernels/device_stream.h. Operations run at once in the engine thread; copies
// run later, in a thread of each copy stream.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "kernels/device_stream.h"

namespace sentencekv {

// When copies run.
enum class CopyTiming : uint8_t {
  kThreads,  // beside the operations, like a device's
  // As late as events allow, in the thread that waits: what is not waited for
  // has not happened. For tests.
  kLatest,
};

class CopyStreams {
 public:
  explicit CopyStreams(CopyTiming timing);
  // Runs what was submitted.
  ~CopyStreams();
  CopyStreams(const CopyStreams&) = delete;
  CopyStreams& operator=(const CopyStreams&) = delete;

  // REQUIRES, of all: `stream` is a copy stream. One thread.
  void Transfer(DeviceStream stream, std::span<const CopyRun> runs);
  DeviceEvent Record(DeviceStream stream);
  // Later work of `stream` waits for `event`, of the other copy stream.
  void Wait(DeviceStream stream, const DeviceEvent& event);
  // The caller waits.
  void Await(const DeviceEvent& event);
  void AwaitAll();

 private:
  // Copies, or an event to wait for.
  struct Work {
    std::vector<CopyRun> runs;
    DeviceEvent wait_for;
  };
  struct Stream {
    std::deque<Work> work;
    uint64_t num_submitted = 0;
    uint64_t num_done = 0;
  };

  Stream& of(DeviceStream stream) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Submit(DeviceStream stream, Work work);
  bool HasPassed(const DeviceEvent& event)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void Copy(std::span<const CopyRun> runs);
  void RunThread(DeviceStream stream);
  // kLatest: runs a stream up to an event, and before that what it waits for.
  void RunUpTo(const DeviceEvent& event);

  const CopyTiming timing_;
  absl::Mutex mutex_;
  std::array<Stream, kNumDeviceStreams> streams_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;  // last: they use the others
};

}  // namespace sentencekv
