// Host memory that is locked for the device. Simulated device only.
#include "kernels/cuda/pinned_pool.h"

#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/numa_node.h"
#include "tests/cuda/simulated_cublas_lt.h"
#include "tests/support/cuda_sim/cuda_sim.h"
#include "tests/support/cuda_sim/nothing_left.h"
#include "tests/support/test_files.h"

namespace sentencekv {
namespace {

constexpr size_t kMiB = size_t{1} << 20;
constexpr size_t kPieceBytes = 2 * kMiB;
constexpr size_t kBytes = 7 * kMiB;  // four pieces

int64_t LockedBytes() { return cuda_sim::CountLiveObjects().pinned_bytes; }

// Addresses that the process has, in pages.
int64_t NumMappedPages() {
  int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages;
}

// Whether the process has memory there.
bool IsMapped(const std::byte* data) {
  unsigned char resident = 0;
  return mincore(const_cast<std::byte*>(data), 1, &resident) == 0;
}

TEST(PinnedPoolTest, LocksInPiecesAndUnlocksThemAll) {
  cuda_sim::Reset({});
  PinnedPool pool({.piece_bytes = kPieceBytes});
  const auto data = pool.Allocate(kBytes);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(cuda_sim::CallsOf("cudaHostRegister"), 4);
  EXPECT_EQ(LockedBytes(), static_cast<int64_t>(8 * kMiB));
  EXPECT_EQ(pool.held_bytes(), 8 * kMiB);
  EXPECT_TRUE(std::all_of(*data, *data + kBytes,
                          [](std::byte b) { return b == std::byte{}; }));
  pool.Free(*data, kBytes);
  EXPECT_EQ(cuda_sim::CallsOf("cudaHostUnregister"), 4);
  EXPECT_EQ(LockedBytes(), 0);
  EXPECT_EQ(pool.held_bytes(), 0u);
  EXPECT_FALSE(IsMapped(*data));
  EXPECT_TRUE(cuda_sim::TakeReports().empty());
}

TEST(PinnedPoolTest, WhatFailsIsUndone) {
  for (int64_t n = 1; n <= 4; ++n) {
    SCOPED_TRACE(n);
    cuda_sim::Reset({});
    cuda_sim::FailCall("cudaHostRegister", n, cudaErrorMemoryAllocation);
    PinnedPool pool({.piece_bytes = kPieceBytes});
    const int64_t pages_before = NumMappedPages();
    const absl::Status status = pool.Allocate(kBytes).status();
    EXPECT_LT((NumMappedPages() - pages_before) * 4096,
              static_cast<int64_t>(kBytes));
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    EXPECT_NE(status.message().find("cudaHostRegister"),
              absl::string_view::npos)
        << status;
    EXPECT_EQ(cuda_sim::CallsOf("cudaHostUnregister"), n - 1);
    EXPECT_EQ(LockedBytes(), 0);
    EXPECT_EQ(pool.held_bytes(), 0u);
    // The system is done with it as well.
    const auto again = pool.Allocate(kBytes);
    ASSERT_TRUE(again.ok()) << again.status();
    pool.Free(*again, kBytes);
    EXPECT_TRUE(cuda_sim::TakeReports().empty());
  }
}

TEST(PinnedPoolTest, RefusesWhatALimitForbidsBeforeItLocksAnything) {
  const std::string root = MakeTempDir() + "/";
  std::filesystem::create_directories(root + "proc");
  std::ofstream(root + "proc/meminfo") << "MemAvailable: 4096 kB\n";
  cuda_sim::Reset({});
  PinnedPool pool({.root = root});
  const absl::Status status = pool.Allocate(kBytes).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_NE(status.message().find("proc/meminfo"), absl::string_view::npos)
      << status;
  EXPECT_EQ(cuda_sim::CallsOf("cudaHostRegister"), 0);
  const auto little = pool.Allocate(1);
  ASSERT_TRUE(little.ok()) << little.status();
  pool.Free(*little, 1);
}

TEST(PinnedPoolTest, RefusesMoreThanThereIs) {
  cuda_sim::Reset({});
  PinnedPool pool({.root = MakeTempDir() + "/"});
  for (const size_t size_bytes : {size_t{1} << 60, SIZE_MAX}) {
    const absl::Status status = pool.Allocate(size_bytes).status();
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  }
}

TEST(PinnedPoolTest, KnowsWherePiecesEnd) {
  cuda_sim::Reset({});
  PinnedPool pool({.piece_bytes = kPieceBytes});
  const auto data = pool.Allocate(kBytes);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(pool.BytesLeftInPiece(*data), kPieceBytes);
  EXPECT_EQ(pool.BytesLeftInPiece(*data + kPieceBytes - 1), 1u);
  EXPECT_EQ(pool.BytesLeftInPiece(*data + kPieceBytes), kPieceBytes);
  EXPECT_EQ(pool.BytesLeftInPiece(*data - 1), SIZE_MAX);
  EXPECT_EQ(pool.BytesLeftInPiece(*data + 8 * kMiB), SIZE_MAX);
  EXPECT_EQ(pool.BytesLeftInPiece(nullptr), SIZE_MAX);
  pool.Free(*data, kBytes);
}

// Copies of any runs, over the ends of pieces.
TEST(PinnedPoolTest, NoCopyTouchesTwoPieces) {
  cuda_sim::Reset({});
  const CublasLtTable table = SimulatedCublasLt();
  auto backend = MakeCudaBackend({.cublas_lt = &table,
                                  .device_memory_bytes = 16 * kMiB,
                                  .mark_block = &cuda_sim::MarkBlock,
                                  .pinned_piece_bytes = kPieceBytes,
                                  .staging_bytes = 1024,
                                  .attention_bytes = 1024,
                                  .product_bytes = 1024});
  ASSERT_TRUE(backend.ok()) << backend.status();
  {
    const auto from = (*backend)->AllocateHost(kBytes);
    const auto to = (*backend)->AllocateHost(kBytes);
    const auto device = (*backend)->Allocate(kBytes);
    ASSERT_TRUE(from.ok() && to.ok() && device.ok());
    for (size_t i = 0; i < kBytes; ++i) {
      from->as<uint8_t>()[i] = static_cast<uint8_t>(i * 7 + (i >> 12));
    }
    // One run of all; runs that lie together; all again, inside the host.
    const CopyRun in = {device->data(), from->data(), kBytes};
    ASSERT_TRUE((*backend)->Transfer(DeviceStream::kToDevice, {&in, 1}).ok());
    const auto arrived = (*backend)->Record(DeviceStream::kToDevice);
    ASSERT_TRUE(arrived.ok());
    ASSERT_TRUE((*backend)->Wait(DeviceStream::kToHost, *arrived).ok());
    constexpr size_t kCuts[] = {0, kMiB, 2 * kMiB + 5, 6 * kMiB, kBytes};
    std::vector<CopyRun> out;
    for (int i = 0; i < 4; ++i) {
      out.push_back({to->as<std::byte>() + kCuts[i],
                     device->as<std::byte>() + kCuts[i],
                     kCuts[i + 1] - kCuts[i]});
    }
    ASSERT_TRUE((*backend)->Transfer(DeviceStream::kToHost, out).ok());
    ASSERT_TRUE((*backend)->Synchronize().ok());
    EXPECT_TRUE(std::equal(from->as<uint8_t>(), from->as<uint8_t>() + kBytes,
                           to->as<uint8_t>()));
    std::fill_n(to->as<uint8_t>(), kBytes, uint8_t{0});
    // Their pieces end at different bytes.
    const CopyRun within = {to->as<std::byte>() + 100, from->data(),
                            kBytes - 100};
    ASSERT_TRUE((*backend)->Transfer(DeviceStream::kToHost, {&within, 1}).ok());
    ASSERT_TRUE((*backend)->Synchronize().ok());
    EXPECT_TRUE(std::equal(from->as<uint8_t>(),
                           from->as<uint8_t>() + kBytes - 100,
                           to->as<uint8_t>() + 100));
  }
  backend->reset();
  cuda_sim::ExpectNothingFound();
}

TEST(NumaNodeTest, MemoryIsBoundToTheNode) {
  constexpr size_t kPages = 16 * 4096;
  void* data = mmap(nullptr, kPages, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(data, MAP_FAILED);
  const auto policy_of = [&] {
    int mode = -1;
    const long error =
        syscall(SYS_get_mempolicy, &mode, nullptr, 0, data, MPOL_F_ADDR);
    return error == 0 ? mode : -1;
  };
  if (policy_of() == -1) GTEST_SKIP() << "no memory policies here";
  PreferNumaNode(static_cast<std::byte*>(data), kPages, -1);
  EXPECT_EQ(policy_of(), MPOL_DEFAULT);
  PreferNumaNode(static_cast<std::byte*>(data), kPages, 0);
  EXPECT_EQ(policy_of(), MPOL_PREFERRED);
  munmap(data, kPages);
}

}  // namespace
}  // namespace sentencekv
