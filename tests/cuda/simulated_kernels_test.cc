// The simulated device finds the defect of every broken kernel, whatever the
// order of its threads, and lets the right ones pass with right results.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "tests/cuda/sample_kernels.h"
#include "tests/support/cuda_sim/sim_device.h"

namespace sentencekv {
namespace {

using cuda_sim::Finding;
using cuda_sim::OperationCount;
using cuda_sim::Report;
using cuda_sim::SimDevice;

constexpr uint64_t kNumSeeds = 20;
constexpr unsigned kThreads = 256;
constexpr unsigned kBlocks = 5;
constexpr int kCount = kThreads * kBlocks;

struct Expectation {
  Sample sample;
  const char* name;
  Finding finding;
  unsigned blocks = kBlocks;
  int count = kCount;
};

const Expectation kExpectations[] = {
    {Sample::kReverse, "Reverse", Finding::kThreadRace, 1, kThreads},
    {Sample::kWarpReverse, "WarpReverse", Finding::kThreadRace},
    {Sample::kTreeSum, "TreeSum", Finding::kThreadRace},
    {Sample::kTwoSums, "TwoSums", Finding::kThreadRace},
    {Sample::kBounds, "Bounds", Finding::kOutOfBounds, kBlocks, kCount - 1},
    {Sample::kUnwritten, "Unwritten", Finding::kUnwrittenShared},
    {Sample::kEarlyReturn, "EarlyReturn", Finding::kBarrierDivergence, kBlocks,
     kCount - 1},
    {Sample::kHalfBarrier, "HalfBarrier", Finding::kBarrierDivergence},
    {Sample::kShuffleMask, "ShuffleMask", Finding::kWarpDivergence},
    {Sample::kShuffleBranch, "ShuffleBranch", Finding::kWarpDivergence},
    {Sample::kShuffleSource, "ShuffleSource", Finding::kWarpDivergence},
    {Sample::kBlockCounter, "BlockCounter", Finding::kBlockRace},
    {Sample::kLastBlock, "LastBlock", Finding::kBlockRace},
    {Sample::kAsyncCopy, "AsyncCopy", Finding::kUnfinishedCopy},
    {Sample::kAsyncBarrier, "AsyncBarrier", Finding::kUnwrittenShared},
    {Sample::kAlignment, "Alignment", Finding::kMisaligned},
    {Sample::kSharedOverrun, "SharedOverrun", Finding::kOutOfBounds},
    {Sample::kReadModify, "ReadModify", Finding::kThreadRace, 1, 1},
    {Sample::kByteNeighbours, "ByteNeighbours", Finding::kThreadRace},
};
static_assert(std::size(kExpectations) ==
              static_cast<size_t>(Sample::kNumSamples));

std::vector<float> Input() {
  // Some kernels read four elements a thread.
  std::vector<float> input(4 * kCount);
  std::iota(input.begin(), input.end(), 1.0f);
  return input;
}

struct Outcome {
  cudaError_t error;
  std::vector<float> out;
  std::vector<Report> reports;
};

Outcome RunSample(const Expectation& e, bool is_broken, uint64_t seed) {
  SimDevice device(seed);
  SampleLaunch launch;
  // As large as what a right kernel writes.
  const size_t out_count = e.sample == Sample::kAlignment
                               ? 4 * kCount
                               : static_cast<size_t>(e.count);
  launch.out = device.Device<float>(out_count);
  launch.in = device.Upload(Input());
  launch.counter = device.Upload(std::vector<unsigned>{0});
  launch.count = e.sample == Sample::kAlignment ? 4 * e.count : e.count;
  launch.is_broken = is_broken;
  Outcome outcome;
  outcome.error =
      LaunchSample(e.sample, launch, e.blocks, kThreads, device.stream());
  if (outcome.error == cudaSuccess) {
    outcome.error = cudaStreamSynchronize(device.stream());
  }
  if (outcome.error == cudaSuccess) {
    outcome.out = device.Download(launch.out, out_count);
  }
  outcome.reports = cuda_sim::TakeReports();
  return outcome;
}

class SimulatedKernelsTest : public testing::TestWithParam<Expectation> {
 protected:
  static bool IsExpected(Finding finding) {
    // A reader that comes before the copy begins, is under way or is over.
    if (GetParam().sample == Sample::kAsyncBarrier) {
      return finding == Finding::kUnwrittenShared ||
             finding == Finding::kUnfinishedCopy ||
             finding == Finding::kThreadRace;
    }
    return finding == GetParam().finding;
  }
};

TEST_P(SimulatedKernelsTest, FindsTheDefectWithEverySeed) {
  for (uint64_t seed = 0; seed < kNumSeeds; ++seed) {
    SCOPED_TRACE(seed);
    const Outcome outcome = RunSample(GetParam(), /*is_broken=*/true, seed);
    EXPECT_EQ(outcome.error, cudaErrorLaunchFailure);
    ASSERT_EQ(outcome.reports.size(), 1u);
    EXPECT_TRUE(IsExpected(outcome.reports[0].finding))
        << FindingName(outcome.reports[0].finding) << ": "
        << outcome.reports[0].text;
    // The report names the kernel, and where.
    EXPECT_NE(outcome.reports[0].text.find(GetParam().name), std::string::npos)
        << outcome.reports[0].text;
    EXPECT_NE(outcome.reports[0].text.find("sample_kernels.cu:"),
              std::string::npos)
        << outcome.reports[0].text;
  }
}

TEST_P(SimulatedKernelsTest, LetsTheRightOnePassWithEverySeed) {
  std::vector<float> first;
  for (uint64_t seed = 0; seed < kNumSeeds; ++seed) {
    SCOPED_TRACE(seed);
    const Outcome outcome = RunSample(GetParam(), /*is_broken=*/false, seed);
    ASSERT_EQ(outcome.error, cudaSuccess);
    for (const Report& report : outcome.reports) ADD_FAILURE() << report.text;
    if (seed == 0) first = outcome.out;
    ASSERT_EQ(outcome.out.size(), first.size());
    EXPECT_EQ(std::memcmp(outcome.out.data(), first.data(),
                          first.size() * sizeof(float)),
              0);
  }
}

INSTANTIATE_TEST_SUITE_P(Samples, SimulatedKernelsTest,
                         testing::ValuesIn(kExpectations),
                         [](const auto& info) {
                           return std::string(info.param.name);
                         });

TEST(SimulatedDeviceTest, ComputesWhatTheKernelsSay) {
  const std::vector<float> input = Input();
  const Outcome reverse = RunSample(kExpectations[0], false, 1);
  for (unsigned i = 0; i < kThreads; ++i) {
    EXPECT_EQ(reverse.out[i], input[kThreads - 1 - i]);
  }
  const Outcome warps = RunSample(kExpectations[1], false, 1);
  for (int i = 0; i < kCount; ++i) EXPECT_EQ(warps.out[i], input[i ^ 31]);
  const float all = std::accumulate(input.begin(), input.begin() + kCount, 0.f);
  EXPECT_EQ(
      RunSample({Sample::kLastBlock, "", Finding::kBlockRace}, false, 3).out[0],
      all);
  const Outcome trees = RunSample(kExpectations[2], false, 1);
  EXPECT_EQ(
      std::accumulate(trees.out.begin(), trees.out.begin() + kBlocks, 0.f),
      all);
}

// Of all launches so far.
OperationCount CountOf(const std::string& name) {
  for (const OperationCount& count : cuda_sim::OperationCounts()) {
    if (count.name == name) return count;
  }
  ADD_FAILURE() << "no " << name << " was launched";
  return {};
}

TEST(SimulatedDeviceTest, CountsBytesOnceALaunch) {
  SimDevice device(1);
  SampleLaunch launch;
  launch.out = device.Device<float>(kCount);
  launch.in = device.Upload(Input());
  launch.count = kCount;
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(LaunchSample(Sample::kTwoSums, launch, kBlocks, kThreads,
                           device.stream()),
              cudaSuccess);
  }
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  const OperationCount count = CountOf("TwoSums");
  EXPECT_EQ(count.launches, 3);
  EXPECT_EQ(count.bytes_read, 3 * int64_t{kCount} * 4);
  EXPECT_EQ(count.bytes_written, 3 * int64_t{kBlocks} * 4);
  EXPECT_EQ(count.host_bytes_read, 0);
  EXPECT_EQ(count.host_bytes_written, 0);
}

// What a kernel or copy reads or writes in host memory goes over the link.
TEST(SimulatedDeviceTest, CountsBytesOverTheLink) {
  SimDevice device(1);
  const std::vector<float> input = Input();
  SampleLaunch launch;
  launch.out = device.Pinned<float>(kCount);
  launch.in = device.Upload(input);
  launch.count = kCount;
  const auto launch_sums = [&] {
    ASSERT_EQ(LaunchSample(Sample::kTwoSums, launch, kBlocks, kThreads,
                           device.stream()),
              cudaSuccess);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  };
  launch_sums();
  EXPECT_EQ(CountOf("TwoSums").host_bytes_read, 0);
  EXPECT_EQ(CountOf("TwoSums").host_bytes_written, int64_t{kBlocks} * 4);
  float* const pinned = device.Pinned<float>(kCount);
  std::copy_n(input.begin(), kCount, pinned);
  launch.in = pinned;
  launch_sums();
  EXPECT_EQ(CountOf("TwoSums").host_bytes_read, int64_t{kCount} * 4);
  EXPECT_EQ(CountOf("TwoSums").host_bytes_written, 2 * int64_t{kBlocks} * 4);
  // Of Upload and Download.
  const auto input_bytes = static_cast<int64_t>(input.size() * sizeof(float));
  EXPECT_EQ(CountOf("copy to device").host_bytes_read, input_bytes);
  EXPECT_EQ(CountOf("copy to device").host_bytes_written, 0);
  (void)device.Download(device.Upload(input), 10);
  EXPECT_EQ(CountOf("copy to host").host_bytes_read, 0);
  EXPECT_EQ(CountOf("copy to host").host_bytes_written, 10 * 4);
}

}  // namespace
}  // namespace sentencekv
