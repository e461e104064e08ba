// What the simulated device finds in the use of memory that a program divides
// itself, and of its own memory that it registers.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstddef>

#include "tests/cuda/seeded_run.h"

namespace sentencekv {
namespace {

using cuda_sim::Finding;
using cuda_sim::MarkBlock;

constexpr size_t kPage = 4096;

// An allocation with two blocks, and gaps before and between.
struct Divided {
  explicit Divided(SeededRun& run) : stream(run.stream) {
    memory = run.device.Device<std::byte>(4 * kBytes);
    first = reinterpret_cast<float*>(memory + kBytes / 2);
    second = reinterpret_cast<float*>(memory + 2 * kBytes);
    for (float* block : {first, second}) {
      EXPECT_EQ(MarkBlock(block, kBytes, true, stream), cudaSuccess);
    }
  }
  // A kernel writes the block; one element more if it is broken.
  cudaError_t Fill(float* block, bool is_broken) {
    SampleLaunch launch;
    launch.out = block;
    launch.count = kThreads;
    launch.is_broken = is_broken;
    return LaunchSample(Sample::kBounds, launch, 1, 2 * kThreads, stream);
  }

  cudaStream_t stream;
  std::byte* memory;
  float* first;
  float* second;
};

TEST(SimulatedMemoryTest, KernelsStayInTheirBlocks) {
  ForEverySeed([](SeededRun& run) {
    for (const bool is_broken : {false, true}) {
      Divided divided(run);
      ASSERT_EQ(divided.Fill(divided.first, is_broken), cudaSuccess);
      const cudaError_t error = cudaStreamSynchronize(run.stream);
      if (is_broken) {
        EXPECT_EQ(error, cudaErrorLaunchFailure);
        ExpectFinding(Finding::kOutOfBounds);
      } else {
        EXPECT_EQ(error, cudaSuccess);
      }
    }
  });
}

TEST(SimulatedMemoryTest, CopiesStayInTheirBlocks) {
  ForEverySeed([](SeededRun& run) {
    Divided divided(run);
    ASSERT_EQ(cudaMemsetAsync(divided.first, 0, kBytes, run.stream),
              cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(run.stream), cudaSuccess);
    ASSERT_EQ(cudaMemsetAsync(divided.first, 0, kBytes + 1, run.stream),
              cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(run.stream), cudaErrorLaunchFailure);
    ExpectFinding(Finding::kOutOfBounds);
    // Before the first block.
    ASSERT_EQ(cudaMemsetAsync(divided.memory, 0, 1, run.stream), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(run.stream), cudaErrorLaunchFailure);
    ExpectFinding(Finding::kOutOfBounds);
  });
}

// What was submitted before is none of its business.
TEST(SimulatedMemoryTest, BlocksEndInTheOrderOfTheStream) {
  ForEverySeed([](SeededRun& run) {
    Divided divided(run);
    ASSERT_EQ(divided.Fill(divided.second, false), cudaSuccess);
    ASSERT_EQ(MarkBlock(divided.second, kBytes, false, run.stream),
              cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(run.stream), cudaSuccess);
    ASSERT_EQ(divided.Fill(divided.second, false), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(run.stream), cudaErrorLaunchFailure);
    ExpectFinding(Finding::kUseAfterFree);
  });
}

// A stream that copies must be done with a block before another begins there.
TEST(SimulatedMemoryTest, ANewBlockIsAWrite) {
  ForEverySeed([](SeededRun& run) {
    Divided divided(run);
    ASSERT_EQ(cudaStreamSynchronize(run.stream), cudaSuccess);
    float* host = run.device.Pinned<float>(kThreads);
    ASSERT_EQ(cudaMemcpyAsync(host, divided.first, kBytes,
                              cudaMemcpyDeviceToHost, run.device.NewStream()),
              cudaSuccess);
    ASSERT_EQ(MarkBlock(divided.first, kBytes, true, run.stream), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    ExpectFinding(Finding::kOperationRace);
  });
}

class Mapped {
 public:
  Mapped()
      : data_(static_cast<std::byte*>(
            mmap(nullptr, 4 * kPage, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {}
  ~Mapped() { munmap(data_, 4 * kPage); }
  std::byte* data() const { return data_; }

 private:
  std::byte* const data_;
};

TEST(SimulatedMemoryTest, APageIsRegisteredOnce) {
  cuda_sim::Reset({});
  const Mapped memory;
  std::byte* const data = memory.data();
  ASSERT_EQ(cudaHostRegister(data + kPage, 100, 0), cudaSuccess);
  EXPECT_EQ(cudaHostRegister(data + kPage + 200, 100, 0),
            cudaErrorHostMemoryAlreadyRegistered);
  EXPECT_EQ(cudaHostRegister(data, kPage + 1, 0),
            cudaErrorHostMemoryAlreadyRegistered);
  EXPECT_EQ(cudaHostRegister(data, kPage, 0), cudaSuccess);
  EXPECT_EQ(cudaHostRegister(data + 2 * kPage, kPage, 0), cudaSuccess);
  EXPECT_EQ(cudaHostUnregister(data), cudaSuccess);
  EXPECT_EQ(cudaHostUnregister(data), cudaErrorHostMemoryNotRegistered);
  EXPECT_EQ(cudaHostUnregister(data + kPage), cudaSuccess);
  EXPECT_EQ(cudaHostUnregister(data + 2 * kPage), cudaSuccess);
  EXPECT_EQ(cuda_sim::CountLiveObjects().pinned_bytes, 0);
  EXPECT_TRUE(cuda_sim::TakeReports().empty());
}

TEST(SimulatedMemoryTest, OnlyMemoryThatIsThereIsRegistered) {
  cuda_sim::Reset({});
  const Mapped memory;
  std::byte* const data = memory.data();
  munmap(data + 2 * kPage, kPage);
  EXPECT_EQ(cudaHostRegister(data + kPage, 2 * kPage, 0),
            cudaErrorInvalidValue);
  ASSERT_EQ(cudaHostRegister(data, 2 * kPage, 0), cudaSuccess);
  munmap(data + kPage, kPage);
  EXPECT_NE(cudaHostUnregister(data), cudaSuccess);
  ExpectFinding(Finding::kRuntimeMisuse);
}

}  // namespace
}  // namespace sentencekv
