// Device memory that is handed on from one buffer to the next while the streams
// are at work. Simulated device only.
#include "kernels/cuda/device_arena.h"

#include <cstdint>
#include <memory>
#include <string>

#include "fmt/format.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/cuda/arena_program.h"
#include "tests/cuda/simulated_cublas_lt.h"
#include "tests/support/cuda_sim/cuda_sim.h"
#include "tests/support/cuda_sim/nothing_left.h"

namespace sentencekv {
namespace {

constexpr size_t kArenaBytes = 24 << 10;
constexpr uint32_t kNumSeeds = 20;

// What a test has on the device: 6 KiB are the backend's own.
absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(
    size_t device_bytes = kArenaBytes) {
  const CublasLtTable table = SimulatedCublasLt();
  return MakeCudaBackend({.cublas_lt = &table,
                          .device_memory_bytes = device_bytes,
                          .mark_block = &cuda_sim::MarkBlock,
                          .staging_bytes = 1024,
                          .attention_bytes = 1024,
                          .product_bytes = 1024});
}

// Calls that make the host wait, and those that a driver waits in by itself.
int64_t NumHostWaits() {
  int64_t waits = 0;
  for (const char* call : {"cudaStreamSynchronize", "cudaDeviceSynchronize",
                           "cudaMalloc", "cudaFree", "cudaHostAlloc",
                           "cudaHostRegister", "cudaHostUnregister"}) {
    waits += cuda_sim::CallsOf(call);
  }
  return waits;
}

TEST(DeviceArenaTest, RandomProgramsFindWhatTheyWroteAndTheHostDoesNotWait) {
  int64_t num_refused = 0;
  int64_t num_waits = 0;
  for (uint32_t seed = 1; seed <= kNumSeeds; ++seed) {
    SCOPED_TRACE(seed);
    cuda_sim::Reset({.seed = seed});
    auto backend = MakeBackend();
    ASSERT_TRUE(backend.ok()) << backend.status();
    const size_t free_bytes = (*backend)->memory_budget().free_bytes;
    {
      ArenaProgram program(**backend, seed);
      ASSERT_TRUE(program.Start().ok());
      const int64_t waits_before = NumHostWaits();
      for (int step = 0; step < 300; ++step) {
        const absl::Status status = program.Step();
        ASSERT_TRUE(status.ok()) << status;
      }
      EXPECT_EQ(NumHostWaits(), waits_before);
      bool is_right = false;
      ASSERT_TRUE(program.Finish(&is_right).ok());
      EXPECT_TRUE(is_right);
      num_refused += program.num_refused();
    }
    // Everything comes back, in one piece.
    auto all = (*backend)->Allocate(free_bytes);
    EXPECT_TRUE(all.ok()) << all.status();
    num_waits += (*backend)->memory_budget().num_waits;
    all = absl::CancelledError();
    backend->reset();
    cuda_sim::ExpectNothingLeft();
    if (HasFailure()) return;
  }
  // The programs went where memory was short.
  EXPECT_GT(num_refused, 0);
  EXPECT_GT(num_waits, 0);
}

TEST(DeviceArenaTest, WithOtherMemoryNothingWaitsForCopies) {
  for (uint32_t seed = 1; seed <= kNumSeeds; ++seed) {
    SCOPED_TRACE(seed);
    cuda_sim::Reset({.seed = seed});
    auto backend = MakeBackend();
    ASSERT_TRUE(backend.ok()) << backend.status();
    {
      const auto host = (*backend)->AllocateHost(1024);
      auto buffer = (*backend)->Allocate(1024);
      ASSERT_TRUE(host.ok() && buffer.ok());
      for (int i = 0; i < 4; ++i) {
        const CopyRun run = {host->data(), buffer->data(), 1024};
        ASSERT_TRUE(
            (*backend)->Transfer(DeviceStream::kToHost, {&run, 1}).ok());
        buffer = absl::CancelledError();
        buffer = (*backend)->Allocate(1024);
        ASSERT_TRUE(buffer.ok()) << buffer.status();
      }
      EXPECT_EQ((*backend)->memory_budget().num_waits, 0);
    }
    backend->reset();
    cuda_sim::ExpectNothingLeft();
  }
}

TEST(DeviceArenaTest,
     WithoutOtherMemoryOperationsWaitForCopiesAndTheHostDoesNot) {
  for (uint32_t seed = 1; seed <= kNumSeeds; ++seed) {
    SCOPED_TRACE(seed);
    cuda_sim::Reset({.seed = seed});
    auto backend = MakeBackend();
    ASSERT_TRUE(backend.ok()) << backend.status();
    {
      const size_t all = (*backend)->memory_budget().free_bytes;
      const auto host = (*backend)->AllocateHost(all);
      auto buffer = (*backend)->Allocate(all);
      ASSERT_TRUE(host.ok() && buffer.ok());
      const CopyRun run = {host->data(), buffer->data(), all};
      for (int i = 0; i < 4; ++i) {
        ASSERT_TRUE(
            (*backend)->Transfer(DeviceStream::kToHost, {&run, 1}).ok());
        const int64_t waits_before = NumHostWaits();
        buffer = absl::CancelledError();
        buffer = (*backend)->Allocate(all);
        ASSERT_TRUE(buffer.ok()) << buffer.status();
        EXPECT_EQ(NumHostWaits(), waits_before);
      }
      // Some copies were over when they were asked about.
      EXPECT_LE((*backend)->memory_budget().num_waits, 4);
    }
    backend->reset();
    cuda_sim::ExpectNothingLeft();
  }
}

TEST(DeviceArenaTest, SaysWhatHoldsMemoryWhenThereIsNone) {
  cuda_sim::Reset({});
  auto backend = MakeBackend();
  ASSERT_TRUE(backend.ok()) << backend.status();
  {
    const auto weights = (*backend)->Allocate(8 << 10, MemoryUse::kWeights);
    const auto index = (*backend)->Allocate(1, MemoryUse::kSentenceIndex);
    auto last = (*backend)->Allocate(1024);
    ASSERT_TRUE(weights.ok() && index.ok() && last.ok());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(last->data()) % 256, 0u);
    const MemoryBudget budget = (*backend)->memory_budget();
    EXPECT_EQ(budget.total_bytes, kArenaBytes);
    EXPECT_EQ(budget.free_bytes,
              kArenaBytes - (6 << 10) - (8 << 10) - 256 - 1024);
    const absl::Status status =
        (*backend)->Allocate(20 << 10, MemoryUse::kKeysAndValues).status();
    ASSERT_TRUE(absl::IsResourceExhausted(status)) << status;
    const std::string message(status.message());
    for (const std::string& words :
         {std::string("for 20480 bytes"),
          fmt::format("{} are free", budget.free_bytes),
          fmt::format("the largest block has {}", budget.largest_free_bytes),
          std::string("weights 8.0 KiB"),
          std::string("sentence index 256 bytes"),
          std::string("workspace 2.0 KiB"), std::string("staging 4.0 KiB")}) {
      EXPECT_NE(message.find(words), std::string::npos)
          << words << ": " << message;
    }
    EXPECT_TRUE(
        absl::IsResourceExhausted((*backend)->Allocate(SIZE_MAX).status()));
  }
  backend->reset();
  cuda_sim::ExpectNothingLeft();
}

TEST(DeviceArenaTest, TakesWhatIsFreeButLeavesSomeToTheDriver) {
  for (const size_t device_bytes : {size_t{64} << 20, size_t{80} << 30}) {
    cuda_sim::Reset({.device_bytes = device_bytes});
    auto backend = MakeBackend(/*device_bytes=*/0);
    ASSERT_TRUE(backend.ok()) << backend.status();
    EXPECT_EQ((*backend)->memory_budget().total_bytes,
              device_bytes - std::min(device_bytes / 8, size_t{1} << 30));
    EXPECT_EQ(cuda_sim::CallsOf("cudaMalloc"), 1);
    backend->reset();
    cuda_sim::ExpectNothingLeft();
  }
}

TEST(DeviceArenaTest, RefusesMoreThanTheDeviceHas) {
  cuda_sim::Reset({.device_bytes = size_t{1} << 20});
  const absl::Status status = MakeBackend(size_t{2} << 20).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_NE(status.message().find("2097152 bytes of device memory"),
            absl::string_view::npos)
      << status;
  cuda_sim::ExpectNothingLeft();
}

// Whatever fails, the program can go on, and memory comes back.
class ArenaFaultsTest : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Functions, ArenaFaultsTest,
                         testing::Values("cudaEventCreateWithFlags",
                                         "cudaEventRecord", "cudaEventQuery",
                                         "cudaStreamWaitEvent",
                                         "cudaMemsetAsync", "MarkBlock"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

TEST_P(ArenaFaultsTest, EachCallMayFail) {
  constexpr int kSteps = 80;
  for (int64_t n = 1;; ++n) {
    SCOPED_TRACE(n);
    cuda_sim::Reset({.seed = static_cast<uint64_t>(n)});
    auto backend = MakeBackend();
    ASSERT_TRUE(backend.ok()) << backend.status();
    const size_t free_bytes = (*backend)->memory_budget().free_bytes;
    bool has_failed = false;
    {
      ArenaProgram program(**backend, 7);
      ASSERT_TRUE(program.Start().ok());
      const int64_t calls_before = cuda_sim::CallsOf(GetParam());
      cuda_sim::FailCall(GetParam(), n);
      for (int step = 0; step < kSteps; ++step) {
        // What failed is not tried again; the next step is another one.
        has_failed |= !program.Step().ok();
      }
      has_failed |= cuda_sim::CallsOf(GetParam()) - calls_before >= n;
      ASSERT_TRUE((*backend)->Synchronize().ok());
    }
    cuda_sim::ExpectNothingFound();
    cuda_sim::FailCall(GetParam(), int64_t{1} << 40);
    auto all = (*backend)->Allocate(free_bytes);
    EXPECT_TRUE(all.ok()) << all.status();
    all = absl::CancelledError();
    backend->reset();
    cuda_sim::ExpectNothingLeft();
    if (!has_failed || HasFailure()) {
      EXPECT_GT(n, 5) << "calls were made";
      return;
    }
  }
}

}  // namespace
}  // namespace sentencekv
