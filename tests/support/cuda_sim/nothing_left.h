// For tests: that a program did nothing wrong, and gave everything back.
#pragma once

#include <gtest/gtest.h>

#include "tests/support/cuda_sim/cuda_sim.h"

namespace cuda_sim {

// Fails the test with every finding that was not taken.
inline void ExpectNothingFound() {
  for (const Report& report : TakeReports()) {
    ADD_FAILURE() << FindingName(report.finding) << ": " << report.text;
  }
}

inline void ExpectNothingLeft() {
  ExpectNothingFound();
  const LiveObjects live = CountLiveObjects();
  EXPECT_EQ(live.device_bytes, 0);
  EXPECT_EQ(live.pinned_bytes, 0);
  EXPECT_EQ(live.streams, 0);
  EXPECT_EQ(live.events, 0);
}

}  // namespace cuda_sim
