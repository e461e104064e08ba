// Every call of a small program fails in its turn: the simulated device says
// so, and nothing is left when the program has given back what it had.
#include <gtest/gtest.h>

#include "tests/cuda/sample_kernels.h"
#include "tests/support/cuda_sim/cuda_sim.h"

namespace sentencekv {
namespace {

constexpr unsigned kThreads = 64;
constexpr size_t kBytes = kThreads * sizeof(float);

// What the program holds; gives it back in the right order.
struct Program {
  ~Program() {
    if (stream != nullptr) (void)cudaStreamDestroy(stream);
    if (event != nullptr) (void)cudaEventDestroy(event);
    (void)cudaFree(in);
    (void)cudaFree(out);
    (void)cudaFreeHost(host);
  }

  cudaError_t Run() {
    constexpr cudaError_t (*calls[])(Program&) = {
        [](Program& p) {
          return cudaStreamCreateWithFlags(&p.stream, cudaStreamNonBlocking);
        },
        [](Program& p) { return cudaEventCreateWithFlags(&p.event, 0); },
        [](Program& p) { return cudaMalloc(&p.in, kBytes); },
        [](Program& p) { return cudaMalloc(&p.out, kBytes); },
        [](Program& p) { return cudaHostAlloc(&p.host, kBytes, 0); },
        [](Program& p) { return cudaMemsetAsync(p.in, 0, kBytes, p.stream); },
        [](Program& p) {
          SampleLaunch launch;
          launch.out = static_cast<float*>(p.out);
          launch.in = static_cast<float*>(p.in);
          launch.count = kThreads;
          return LaunchSample(Sample::kReverse, launch, 1, kThreads, p.stream);
        },
        [](Program& p) {
          return cudaMemcpyAsync(p.host, p.out, kBytes, cudaMemcpyDeviceToHost,
                                 p.stream);
        },
        [](Program& p) { return cudaEventRecord(p.event, p.stream); },
        [](Program& p) { return cudaEventSynchronize(p.event); }};
    for (auto* call : calls) {
      const cudaError_t error = call(*this);
      if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
  }

  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  void* in = nullptr;
  void* out = nullptr;
  void* host = nullptr;
};

void ExpectNothingLeft() {
  const cuda_sim::LiveObjects live = cuda_sim::CountLiveObjects();
  EXPECT_EQ(live.device_bytes, 0);
  EXPECT_EQ(live.pinned_bytes, 0);
  EXPECT_EQ(live.streams, 0);
  EXPECT_EQ(live.events, 0);
  EXPECT_TRUE(cuda_sim::TakeReports().empty());
}

TEST(SimulatedFaultsTest, EachCallFailsInItsTurn) {
  int64_t num_calls = 0;
  for (int64_t n = 1;; ++n) {
    SCOPED_TRACE(n);
    cuda_sim::Reset({.seed = static_cast<uint64_t>(n)});
    cuda_sim::FailCall("", n, cudaErrorUnknown);
    cudaError_t error = cudaSuccess;
    {
      Program program;
      error = program.Run();
      num_calls = cuda_sim::CallsOf("");
    }
    ExpectNothingLeft();
    if (error == cudaSuccess) break;
    EXPECT_EQ(error, cudaErrorUnknown);
    EXPECT_EQ(num_calls, n) << "the call after the failed one";
  }
  EXPECT_EQ(num_calls, 10) << "all calls were tried";
}

TEST(SimulatedFaultsTest, OneFunctionFailsAtItsNthCall) {
  for (int64_t n = 1; n <= 2; ++n) {
    cuda_sim::Reset({});
    cuda_sim::FailCall("cudaMalloc", n, cudaErrorMemoryAllocation);
    {
      Program program;
      EXPECT_EQ(program.Run(), cudaErrorMemoryAllocation);
      EXPECT_EQ(cuda_sim::CallsOf("cudaMalloc"), n);
      EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
      EXPECT_EQ(cudaGetLastError(), cudaSuccess);
    }
    ExpectNothingLeft();
  }
}

TEST(SimulatedFaultsTest, MemoryEnds) {
  cuda_sim::Reset({.seed = 1, .device_bytes = 4 * kBytes});
  void* most = nullptr;
  void* more = nullptr;
  ASSERT_EQ(cudaMalloc(&most, 3 * kBytes), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&more, 2 * kBytes), cudaErrorMemoryAllocation);
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  ASSERT_EQ(cudaMemGetInfo(&free_bytes, &total_bytes), cudaSuccess);
  EXPECT_EQ(free_bytes, kBytes);
  EXPECT_EQ(total_bytes, 4 * kBytes);
  EXPECT_EQ(cudaFree(most), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&more, 4 * kBytes), cudaSuccess);
  EXPECT_EQ(cudaFree(more), cudaSuccess);
  ExpectNothingLeft();
}

}  // namespace
}  // namespace sentencekv
