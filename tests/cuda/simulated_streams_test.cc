// What the simulated device finds in the use of streams, events and memory, in
// whatever order it runs them.
#include <gtest/gtest.h>

#include <vector>

#include "tests/cuda/seeded_run.h"

namespace sentencekv {
namespace {

using cuda_sim::Finding;

// One stream computes, another copies the result to the host.
TEST(SimulatedStreamsTest, AnEventMustOrderTwoStreams) {
  ForEverySeed([](SeededRun& run) {
    for (const bool waits : {true, false}) {
      const cudaStream_t copies = run.device.NewStream();
      const cudaEvent_t computed = run.device.NewEvent();
      const float* in = run.device.Upload(Ramp());
      float* out = run.device.Device<float>(kThreads);
      float* host = run.device.Pinned<float>(kThreads);
      ASSERT_EQ(Reverse(out, in, run.stream), cudaSuccess);
      ASSERT_EQ(cudaEventRecord(computed, run.stream), cudaSuccess);
      if (waits) {
        ASSERT_EQ(cudaStreamWaitEvent(copies, computed, 0), cudaSuccess);
      }
      ASSERT_EQ(
          cudaMemcpyAsync(host, out, kBytes, cudaMemcpyDeviceToHost, copies),
          cudaSuccess);
      const cudaError_t copied = cudaStreamSynchronize(copies);
      const cudaError_t all = cudaDeviceSynchronize();
      if (waits) {
        ASSERT_EQ(copied, cudaSuccess);
        EXPECT_EQ(host[0], static_cast<float>(kThreads));
      } else {
        EXPECT_EQ(all, cudaErrorLaunchFailure);
        ExpectFinding(Finding::kOperationRace);
      }
    }
  });
}

// The host orders as well, by a wait or by asking until the answer is yes.
TEST(SimulatedStreamsTest, TheHostMayOrderTwoStreams) {
  ForEverySeed([](SeededRun& run) {
    const cudaStream_t other = run.device.NewStream();
    const cudaEvent_t computed = run.device.NewEvent();
    const float* in = run.device.Upload(Ramp());
    float* out = run.device.Device<float>(kThreads);
    float* back = run.device.Device<float>(kThreads);
    ASSERT_EQ(Reverse(out, in, run.stream), cudaSuccess);
    ASSERT_EQ(cudaEventRecord(computed, run.stream), cudaSuccess);
    while (cudaEventQuery(computed) == cudaErrorNotReady) {
    }
    ASSERT_EQ(Reverse(back, out, other), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(other), cudaSuccess);
    EXPECT_EQ(run.device.Download(back, kThreads), Ramp());
  });
}

// A buffer is written again while its reader is not known to be done.
TEST(SimulatedStreamsTest, AReusedBufferMustWaitForItsReader) {
  ForEverySeed([](SeededRun& run) {
    const cudaStream_t copies = run.device.NewStream();
    const cudaEvent_t arrived = run.device.NewEvent();
    float* host = run.device.Pinned<float>(kThreads);
    std::fill_n(host, kThreads, 1.0f);
    float* in = run.device.Device<float>(kThreads);
    float* out = run.device.Device<float>(kThreads);
    ASSERT_EQ(cudaMemcpyAsync(in, host, kBytes, cudaMemcpyHostToDevice, copies),
              cudaSuccess);
    ASSERT_EQ(cudaEventRecord(arrived, copies), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(run.stream, arrived, 0), cudaSuccess);
    ASSERT_EQ(Reverse(out, in, run.stream), cudaSuccess);
    ASSERT_EQ(cudaMemcpyAsync(in, host, kBytes, cudaMemcpyHostToDevice, copies),
              cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    ExpectFinding(Finding::kOperationRace);
  });
}

TEST(SimulatedStreamsTest, TheHostMustNotTouchDeviceMemory) {
  ForEverySeed([](SeededRun& run) {
    const float* in = run.device.Upload(Ramp());
    const float value = *const_cast<const volatile float*>(in);
    EXPECT_EQ(value, 1.0f) << "the read is let through, and reported";
    ExpectFinding(Finding::kHostTouchedDeviceMemory);
  });
}

TEST(SimulatedStreamsTest, CopiesNeedPinnedMemory) {
  ForEverySeed([](SeededRun& run) {
    std::vector<float> host(kThreads);
    float* in = run.device.Device<float>(kThreads);
    EXPECT_EQ(cudaMemcpyAsync(in, host.data(), kBytes, cudaMemcpyHostToDevice,
                              run.stream),
              cudaErrorInvalidValue);
    ExpectFinding(Finding::kUnpinnedCopy);
    ASSERT_EQ(cudaHostRegister(host.data(), kBytes, 0), cudaSuccess);
    EXPECT_EQ(cudaMemcpyAsync(in, host.data(), kBytes, cudaMemcpyHostToDevice,
                              run.stream),
              cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(run.stream), cudaSuccess);
    EXPECT_EQ(cudaHostUnregister(host.data()), cudaSuccess);
  });
}

TEST(SimulatedStreamsTest, TheSourceOfACopyMustStay) {
  ForEverySeed([](SeededRun& run) {
    float* host = run.device.Pinned<float>(kThreads);
    std::fill_n(host, kThreads, 1.0f);
    float* in = run.device.Device<float>(kThreads);
    ASSERT_EQ(
        cudaMemcpyAsync(in, host, kBytes, cudaMemcpyHostToDevice, run.stream),
        cudaSuccess);
    host[kThreads - 1] = 2;
    EXPECT_EQ(cudaStreamSynchronize(run.stream), cudaErrorLaunchFailure);
    ExpectFinding(Finding::kHostChangedSource);
  });
}

TEST(SimulatedStreamsTest, KernelsReachPinnedMemoryOnly) {
  ForEverySeed([](SeededRun& run) {
    float* out = run.device.Device<float>(kThreads);
    float* pinned = run.device.Pinned<float>(kThreads);
    std::fill_n(pinned, kThreads, 3.0f);
    ASSERT_EQ(Reverse(out, pinned, run.stream), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(run.stream), cudaSuccess);
    EXPECT_EQ(run.device.Download(out, kThreads)[7], 3.0f);
    const std::vector<float> pageable(kThreads);
    ASSERT_EQ(Reverse(out, pageable.data(), run.stream), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(run.stream), cudaErrorLaunchFailure);
    ExpectFinding(Finding::kUnpinnedHostMemory);
  });
}

TEST(SimulatedStreamsTest, FreedMemoryIsNotUsed) {
  ForEverySeed([](SeededRun& run) {
    float* in = run.device.Upload(Ramp());
    float* out = run.device.Device<float>(kThreads);
    ASSERT_EQ(cudaFree(in), cudaSuccess);
    ASSERT_EQ(Reverse(out, in, run.stream), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(run.stream), cudaErrorLaunchFailure);
    ExpectFinding(Finding::kUseAfterFree);
    ASSERT_EQ(cudaMemsetAsync(in, 0, kBytes, run.stream), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(run.stream), cudaErrorLaunchFailure);
    ExpectFinding(Finding::kUseAfterFree);
    ASSERT_EQ(cudaMemsetAsync(out, 0, kBytes + 1, run.stream), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(run.stream), cudaErrorLaunchFailure);
    ExpectFinding(Finding::kOutOfBounds);
  });
}

TEST(SimulatedStreamsTest, TheDefaultStreamIsRefused) {
  ForEverySeed([](SeededRun& run) {
    float* out = run.device.Device<float>(kThreads);
    EXPECT_NE(cudaMemsetAsync(out, 0, kBytes, nullptr), cudaSuccess);
    ExpectFinding(Finding::kRuntimeMisuse);
    cudaStream_t stream = nullptr;
    EXPECT_NE(cudaStreamCreateWithFlags(&stream, cudaStreamDefault),
              cudaSuccess);
    ExpectFinding(Finding::kRuntimeMisuse);
    EXPECT_NE(cudaStreamWaitEvent(run.stream, run.device.NewEvent(), 0),
              cudaSuccess);
    ExpectFinding(Finding::kRuntimeMisuse);
  });
}

}  // namespace
}  // namespace sentencekv
