#include "kernels/cpu/cpu_backend.h"

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/aligned_memory.h"
#include "kernels/cpu/cpu_kernels.h"

namespace sentencekv {
namespace {

using testing::HasSubstr;

std::unique_ptr<Backend> MakeBackend() {
  return std::move(MakeCpuBackend({.num_threads = 2})).value();
}

TEST(CpuLevel, ParsesNames) {
  EXPECT_EQ(ParseCpuLevel("auto").value(), DetectCpuLevel());
  EXPECT_EQ(ParseCpuLevel("").value(), DetectCpuLevel());
  EXPECT_EQ(ParseCpuLevel("portable").value(), CpuLevel::kPortable);
  for (const CpuLevel level :
       {CpuLevel::kPortable, CpuLevel::kAvx2, CpuLevel::kAvx512}) {
    const auto parsed = ParseCpuLevel(Name(level));
    if (level <= DetectCpuLevel()) {
      EXPECT_EQ(parsed.value(), level);
    } else {
      EXPECT_EQ(parsed.status().code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_EQ(MakeCpuBackend({.level = level}).status().code(),
                absl::StatusCode::kFailedPrecondition);
    }
  }
  for (const char* name : {"AVX2", "sse", "avx2 ", "0"}) {
    const absl::Status status = ParseCpuLevel(name).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  }
}

// Levels inherit from those below: no entry may be missing at any.
TEST(CpuKernels, AreCompleteAtEveryLevel) {
  for (int level = 0; level <= static_cast<int>(DetectCpuLevel()); ++level) {
    const CpuKernels& kernels = KernelsOf(static_cast<CpuLevel>(level));
    for (int format = 0; format < 5; ++format) {
      EXPECT_NE(kernels.prepare_rows[format], nullptr);
      EXPECT_NE(kernels.multiply_panels[format], nullptr);
    }
    EXPECT_NE(kernels.rms_norm, nullptr);
    EXPECT_NE(kernels.swiglu, nullptr);
    EXPECT_NE(kernels.gather_rows, nullptr);
    EXPECT_NE(kernels.copy_pages, nullptr);
    EXPECT_NE(kernels.rope_table, nullptr);
    EXPECT_NE(kernels.rope_store_kv, nullptr);
    EXPECT_NE(kernels.attention.attend, nullptr);
  }
}

TEST(CpuBackend, ChecksItsOptions) {
  for (const int num_threads : {-1, 1025}) {
    const absl::Status status =
        MakeCpuBackend({.num_threads = num_threads}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(std::to_string(num_threads)));
  }
  EXPECT_TRUE(MakeCpuBackend({.num_threads = 0}).ok());
}

TEST(CpuBackend, DescribesItself) {
  const auto one =
      MakeCpuBackend({.num_threads = 1, .level = CpuLevel::kPortable});
  EXPECT_EQ((*one)->description(), "cpu portable 1 thread");
  const auto three =
      MakeCpuBackend({.num_threads = 3, .level = CpuLevel::kPortable});
  EXPECT_EQ((*three)->description(), "cpu portable 3 threads");
}

TEST(CpuBackend, AllocatesAlignedZeros) {
  auto backend = MakeBackend();
  // Around the borders of the kinds of memory: heap, arena, mapped.
  for (const size_t size :
       {size_t{0}, size_t{1}, size_t{63}, size_t{16383}, size_t{16384},
        (size_t{2} << 20) - 1, size_t{2} << 20, (size_t{5} << 20) + 1}) {
    // The second round gets memory that the first one dirtied.
    for (int round = 0; round < 2; ++round) {
      auto buffer = backend->Allocate(size);
      ASSERT_TRUE(buffer.ok());
      EXPECT_EQ(buffer->size_bytes(), size);
      const auto* data = buffer->as<uint8_t>();
      EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 64, 0u);
      for (size_t i = 0; i < size; ++i) ASSERT_EQ(data[i], 0) << size;
      if (size > 0) std::memset(buffer->data(), 0xa5, size);
    }
  }
}

TEST(CpuBackend, RefusesImpossibleAllocations) {
  auto backend = MakeBackend();
  for (const size_t size : {SIZE_MAX, SIZE_MAX / 2, size_t{1} << 60}) {
    const absl::Status status = backend->Allocate(size).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(size)));
  }
}

// Blocks of every kind come and go; none may overlap another that lives.
TEST(CpuBackend, BuffersDoNotOverlap) {
  auto backend = MakeBackend();
  constexpr uint32_t kSeed = 99;
  std::mt19937 random(kSeed);
  struct Block {
    Buffer buffer;
    uint8_t mark;
  };
  std::vector<Block> blocks;
  const auto expect_intact = [kSeed](const Block& block) {
    const auto* data = block.buffer.as<uint8_t>();
    for (size_t i = 0; i < block.buffer.size_bytes(); i += 997) {
      ASSERT_EQ(data[i], block.mark) << "seed " << kSeed;
    }
    ASSERT_EQ(data[block.buffer.size_bytes() - 1], block.mark);
  };
  for (int step = 0; step < 400; ++step) {
    if (blocks.size() > 40) {
      const size_t index = random() % blocks.size();
      expect_intact(blocks[index]);
      std::swap(blocks[index], blocks.back());
      blocks.pop_back();
    }
    const size_t size = 1 + random() % (size_t{1} << (8 + random() % 15));
    auto buffer = backend->Allocate(size);
    ASSERT_TRUE(buffer.ok());
    const auto mark = static_cast<uint8_t>(random());
    std::memset(buffer->data(), mark, size);
    blocks.push_back({std::move(buffer).value(), mark});
  }
  for (const Block& block : blocks) expect_intact(block);
}

TEST(HugePageArena, GivesChunksBackWhenTheirBlocksAre) {
  HugePageArena arena;
  // 40 blocks of 1 MiB take two chunks of 32 MiB.
  std::vector<std::byte*> blocks;
  for (int i = 0; i < 40; ++i) {
    blocks.push_back(arena.Allocate(size_t{1} << 20));
    ASSERT_NE(blocks.back(), nullptr);
    *blocks.back() = std::byte{1};
  }
  for (std::byte* block : blocks) arena.Free(block);
  std::byte* again = arena.Allocate(size_t{1} << 20);
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(*again, std::byte{0});
  arena.Free(again);
}

TEST(CpuBackend, Copies) {
  auto backend = MakeBackend();
  const char text[] = "sixteen bytes...";
  auto buffer = backend->Allocate(sizeof(text));
  char back[sizeof(text)] = {};
  EXPECT_TRUE(backend->CopyToDevice(buffer->data(), text, sizeof(text)).ok());
  EXPECT_TRUE(backend->CopyToHost(back, buffer->data(), sizeof(text)).ok());
  EXPECT_STREQ(back, text);
  EXPECT_TRUE(backend->CopyToHost(nullptr, nullptr, 0).ok());
  EXPECT_EQ(backend->CopyToHost(nullptr, text, 1),
            absl::InvalidArgumentError("CopyToHost: destination is null"));
  EXPECT_EQ(backend->CopyToDevice(back, nullptr, 1),
            absl::InvalidArgumentError("CopyToDevice: source is null"));
  EXPECT_TRUE(backend->Synchronize().ok());
}

TEST(CpuBackend, HasNothingToTransferInOneMemory) {
  auto backend = MakeBackend();
  EXPECT_FALSE(backend->has_own_memory());
  const auto expect_refused = [](const absl::Status& status,
                                 const char* method) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr(method));
  };
  expect_refused(backend->Transfer(DeviceStream::kToDevice, {}), "Transfer");
  expect_refused(backend->Record(DeviceStream::kToHost).status(), "Record");
  expect_refused(backend->Wait(DeviceStream::kCompute, {}), "Wait");
}

// Plays a device with memory of its own. Copies run as late as events allow, so
// what is there has been waited for.
class CpuBackendOwnMemory : public testing::Test {
 protected:
  void SetUp() override {
    backend_ = std::move(MakeCpuBackend({.num_threads = 2,
                                         .own_memory = CopyTiming::kLatest}))
                   .value();
    device_ = backend_->Allocate(sizeof(int)).value();
    host_ = backend_->AllocateHost(sizeof(int)).value();
    *host_.as<int>() = 5;
  }
  absl::Status ToDevice() {
    const CopyRun run = {device_.data(), host_.data(), sizeof(int)};
    return backend_->Transfer(DeviceStream::kToDevice, {&run, 1});
  }
  int on_device() const { return *device_.as<int>(); }

  std::unique_ptr<Backend> backend_;
  Buffer device_;
  Buffer host_;
};

TEST_F(CpuBackendOwnMemory, SaysSo) {
  EXPECT_TRUE(backend_->has_own_memory());
  EXPECT_THAT(backend_->description(), HasSubstr("memory of its own"));
}

TEST_F(CpuBackendOwnMemory, OperationsWaitForCopies) {
  ASSERT_TRUE(ToDevice().ok());
  const DeviceEvent copied = backend_->Record(DeviceStream::kToDevice).value();
  EXPECT_EQ(copied.stream, DeviceStream::kToDevice);
  EXPECT_GT(copied.number, 0u);
  // An event of no stream, and one of the other, say nothing about the copy.
  ASSERT_TRUE(backend_->Wait(DeviceStream::kCompute, {}).ok());
  ASSERT_TRUE(backend_
                  ->Wait(DeviceStream::kCompute,
                         backend_->Record(DeviceStream::kToHost).value())
                  .ok());
  EXPECT_EQ(on_device(), 0);
  ASSERT_TRUE(backend_->Wait(DeviceStream::kCompute, copied).ok());
  EXPECT_EQ(on_device(), 5);
}

// Operations have run when their method returns: their events have passed.
TEST_F(CpuBackendOwnMemory, CopiesWaitForOperations) {
  const DeviceEvent computed = backend_->Record(DeviceStream::kCompute).value();
  ASSERT_TRUE(backend_->Wait(DeviceStream::kToDevice, computed).ok());
  ASSERT_TRUE(ToDevice().ok());
  ASSERT_TRUE(backend_->Synchronize().ok());
  EXPECT_EQ(on_device(), 5);
}

TEST_F(CpuBackendOwnMemory, CopiesWaitForCopies) {
  ASSERT_TRUE(ToDevice().ok());
  int back = 0;
  const CopyRun run = {&back, device_.data(), sizeof(int)};
  ASSERT_TRUE(backend_
                  ->Wait(DeviceStream::kToHost,
                         backend_->Record(DeviceStream::kToDevice).value())
                  .ok());
  ASSERT_TRUE(backend_->Transfer(DeviceStream::kToHost, {&run, 1}).ok());
  EXPECT_EQ(back, 0);
  ASSERT_TRUE(backend_
                  ->Wait(DeviceStream::kCompute,
                         backend_->Record(DeviceStream::kToHost).value())
                  .ok());
  EXPECT_EQ(back, 5);
}

TEST_F(CpuBackendOwnMemory, SynchronizeWaitsForCopies) {
  int copy = 0;
  const CopyRun run = {&copy, host_.data(), sizeof(int)};
  ASSERT_TRUE(ToDevice().ok());
  ASSERT_TRUE(backend_->Transfer(DeviceStream::kToHost, {&run, 1}).ok());
  EXPECT_EQ(on_device(), 0);
  ASSERT_TRUE(backend_->Synchronize().ok());
  EXPECT_EQ(on_device(), 5);
  EXPECT_EQ(copy, 5);
}

}  // namespace
}  // namespace sentencekv
