// What the simulated device finds in the use of graphs, in whatever order it
// runs their operations.
#include <gtest/gtest.h>

#include <vector>

#include "tests/cuda/seeded_run.h"

namespace sentencekv {
namespace {

using cuda_sim::Finding;

// A fork and a join: in -> middle in one stream, middle -> out in the other.
struct TwoStreamGraph {
  float* in;
  float* middle;
  float* out;
  bool waits = true;  // for the middle
};

cudaGraph_t Capture(SeededRun& run, const TwoStreamGraph& g) {
  const cudaStream_t side = run.device.NewStream();
  const cudaEvent_t fork = run.device.NewEvent();
  const cudaEvent_t middle = run.device.NewEvent();
  const cudaEvent_t join = run.device.NewEvent();
  EXPECT_EQ(cudaStreamBeginCapture(run.stream, cudaStreamCaptureModeGlobal),
            cudaSuccess);
  EXPECT_EQ(cudaEventRecord(fork, run.stream), cudaSuccess);
  EXPECT_EQ(Reverse(g.middle, g.in, run.stream), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(middle, run.stream), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(side, g.waits ? middle : fork, 0), cudaSuccess);
  EXPECT_EQ(Reverse(g.out, g.middle, side), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(join, side), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(run.stream, join, 0), cudaSuccess);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(run.stream, &graph), cudaSuccess);
  return graph;
}

TwoStreamGraph Memory(SeededRun& run) {
  return {run.device.Upload(Ramp()), run.device.Device<float>(kThreads),
          run.device.Device<float>(kThreads)};
}

TEST(SimulatedGraphTest, RunsAtEveryLaunchAndNotBefore) {
  ForEverySeed([](SeededRun& run) {
    const TwoStreamGraph g = Memory(run);
    const cudaGraph_t graph = Capture(run, g);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_NE(run.device.Download(g.out, kThreads), Ramp()) << "only captured";
    cudaGraphExec_t executable = nullptr;
    ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    for (int i = 0; i < 3; ++i) {
      ASSERT_EQ(cudaMemsetAsync(g.out, 0xff, kBytes, run.stream), cudaSuccess);
      ASSERT_EQ(cudaGraphLaunch(executable, run.stream), cudaSuccess);
      EXPECT_EQ(run.device.Download(g.out, kThreads), Ramp());
    }
    // Other memory, same operations.
    const TwoStreamGraph other = Memory(run);
    const cudaGraph_t update = Capture(run, other);
    cudaGraphExecUpdateResultInfo info = {};
    ASSERT_EQ(cudaGraphExecUpdate(executable, update, &info), cudaSuccess);
    ASSERT_EQ(cudaGraphLaunch(executable, run.stream), cudaSuccess);
    EXPECT_EQ(run.device.Download(other.out, kThreads), Ramp());
    EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(update), cudaSuccess);
    EXPECT_EQ(cuda_sim::CountLiveObjects().graphs, 0);
  });
}

TEST(SimulatedGraphTest, AnEventMustOrderItsStreams) {
  ForEverySeed([](SeededRun& run) {
    TwoStreamGraph g = Memory(run);
    g.waits = false;
    cudaGraphExec_t executable = nullptr;
    ASSERT_EQ(cudaGraphInstantiate(&executable, Capture(run, g), 0),
              cudaSuccess);
    ASSERT_EQ(cudaGraphLaunch(executable, run.stream), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(run.stream), cudaErrorLaunchFailure);
    ExpectFinding(Finding::kOperationRace);
  });
}

TEST(SimulatedGraphTest, APointerInItMustNotBeStale) {
  ForEverySeed([](SeededRun& run) {
    const TwoStreamGraph g = Memory(run);
    cudaGraphExec_t executable = nullptr;
    ASSERT_EQ(cudaGraphInstantiate(&executable, Capture(run, g), 0),
              cudaSuccess);
    ASSERT_EQ(cudaGraphLaunch(executable, run.stream), cudaSuccess);
    ASSERT_EQ(cudaFree(g.middle), cudaSuccess);
    ASSERT_EQ(cudaGraphLaunch(executable, run.stream), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(run.stream), cudaErrorLaunchFailure);
    ExpectFinding(Finding::kUseAfterFree);
  });
}

TEST(SimulatedGraphTest, TheHostMustNotWaitWhileItIsCaptured) {
  ForEverySeed([](SeededRun& run) {
    ASSERT_EQ(cudaStreamBeginCapture(run.stream, cudaStreamCaptureModeGlobal),
              cudaSuccess);
    EXPECT_NE(cudaStreamSynchronize(run.stream), cudaSuccess);
    ExpectFinding(Finding::kRuntimeMisuse);
  });
}

TEST(SimulatedGraphTest, EveryStreamMustBeJoined) {
  ForEverySeed([](SeededRun& run) {
    const TwoStreamGraph g = Memory(run);
    const cudaStream_t side = run.device.NewStream();
    const cudaEvent_t fork = run.device.NewEvent();
    ASSERT_EQ(cudaStreamBeginCapture(run.stream, cudaStreamCaptureModeGlobal),
              cudaSuccess);
    ASSERT_EQ(cudaEventRecord(fork, run.stream), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(side, fork, 0), cudaSuccess);
    ASSERT_EQ(Reverse(g.middle, g.in, side), cudaSuccess);
    cudaGraph_t graph = nullptr;
    EXPECT_NE(cudaStreamEndCapture(run.stream, &graph), cudaSuccess);
    ExpectFinding(Finding::kRuntimeMisuse);
  });
}

}  // namespace
}  // namespace sentencekv
