// Time as a dependency, so that deadlines and drains are tested without
// sleeping.
#pragma once

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace sentencekv {

// Thread-safe. Test double: FakeClock (tests/support/fake_clock.h).
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

class SystemClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
};

}  // namespace sentencekv
