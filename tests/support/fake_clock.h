// A clock that stands still until it is told to go on.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/clock.h"

namespace sentencekv {

// Thread-safe. Begins at 2020-01-01 UTC.
class FakeClock final : public Clock {
 public:
  absl::Time Now() const override {
    absl::MutexLock lock(&mutex_);
    return now_;
  }

  // Moves time and wakes those who wait for a deadline. What they wait on must
  // outlive this call.
  void Advance(absl::Duration duration) {
    std::vector<Waiter> waiters;
    {
      absl::MutexLock lock(&mutex_);
      now_ += duration;
      waiters = waiters_;
    }
    for (const Waiter& waiter : waiters) {
      // Under the waiter's own lock, or the signal could come between its look
      // at the clock and its wait.
      absl::MutexLock lock(waiter.second);
      waiter.first->SignalAll();
    }
  }

  void WaitUntil(absl::CondVar& wakeup, absl::Mutex& mutex,
                 absl::Time deadline) const override {
    {
      absl::MutexLock lock(&mutex_);
      if (now_ >= deadline) return;
      waiters_.push_back({&wakeup, &mutex});
    }
    wakeup.Wait(&mutex);
    absl::MutexLock lock(&mutex_);
    waiters_.erase(
        std::find(waiters_.begin(), waiters_.end(), Waiter{&wakeup, &mutex}));
  }

 private:
  using Waiter = std::pair<absl::CondVar*, absl::Mutex*>;

  mutable absl::Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) = absl::FromUnixSeconds(1577836800);
  mutable std::vector<Waiter> waiters_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sentencekv
