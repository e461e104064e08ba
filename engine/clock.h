// Time as a dependency, so that deadlines and drains are tested without
// sleeping.
#pragma once

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace sentencekv {

// Thread-safe. Test double: FakeClock (tests/support/fake_clock.h).
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
  // Waits on `wakeup` until it is signalled or Now() reaches `deadline`; may
  // return early, so callers test their condition in a loop.
  // REQUIRES: `mutex` is held; it is released while waiting.
  virtual void WaitUntil(absl::CondVar& wakeup, absl::Mutex& mutex,
                         absl::Time deadline) const = 0;
};

class SystemClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
  void WaitUntil(absl::CondVar& wakeup, absl::Mutex& mutex,
                 absl::Time deadline) const override {
    wakeup.WaitWithDeadline(&mutex, deadline);
  }
};

}  // namespace sentencekv
