// For tests of the simulated device itself: a program with every seed.
#pragma once

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "tests/cuda/sample_kernels.h"
#include "tests/support/cuda_sim/sim_device.h"

namespace sentencekv {

inline constexpr unsigned kThreads = 256;
inline constexpr size_t kBytes = kThreads * sizeof(float);

inline constexpr uint64_t kNumSeeds = 20;

// A fresh device, on which operations run in an order of its own.
struct SeededRun {
  explicit SeededRun(uint64_t seed) : device(seed), stream(device.stream()) {}

  cuda_sim::SimDevice device;
  cudaStream_t stream;
};

inline void ForEverySeed(void (*test)(SeededRun& run)) {
  for (uint64_t seed = 0; seed < kNumSeeds; ++seed) {
    SCOPED_TRACE(seed);
    SeededRun run(seed);
    test(run);
  }
}

// out[i] = in[last - i].
inline cudaError_t Reverse(float* out, const float* in, cudaStream_t stream) {
  SampleLaunch launch;
  launch.out = out;
  launch.in = in;
  launch.count = kThreads;
  return LaunchSample(Sample::kReverse, launch, 1, kThreads, stream);
}

inline std::vector<float> Ramp() {
  std::vector<float> values(kThreads);
  std::iota(values.begin(), values.end(), 1.0f);
  return values;
}

inline void ExpectFinding(cuda_sim::Finding finding) {
  const std::vector<cuda_sim::Report> reports = cuda_sim::TakeReports();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].finding, finding) << reports[0].text;
}

}  // namespace sentencekv
