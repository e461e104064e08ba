// The simulated device under a test, afresh for each seed.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>

#include "fmt/format.h"
#include "tests/support/cuda_sim/sim_device.h"

namespace sentencekv {

// Calls body(SimDevice&) with a fresh device for each of the seeds
// 1..num_seeds: threads, blocks and operations go in another order each time.
template <typename Body>
void ForSeeds(uint64_t num_seeds, Body&& body) {
  for (uint64_t seed = 1; seed <= num_seeds; ++seed) {
    SCOPED_TRACE(fmt::format("device seed {}", seed));
    {
      cuda_sim::SimDevice device(seed);
      body(device);
    }
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace sentencekv
