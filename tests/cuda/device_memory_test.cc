// Memory, copies, streams and events of the CUDA backend.
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "tests/cuda/backend_under_test.h"
#include "tests/cuda/copies_program.h"
#include "tests/support/random_matrix.h"

namespace sentencekv {
namespace {

// Small segments, so that the ring of pinned memory goes round and round.
class DeviceMemoryTest : public CudaBackendTest {
 protected:
  DeviceMemoryTest() : CudaBackendTest(/*staging_bytes=*/256) {}
};

INSTANTIATE_TEST_SUITE_P(Seeds, DeviceMemoryTest,
                         testing::ValuesIn(DeviceSeeds()));

TEST_P(DeviceMemoryTest, HasMemoryOfItsOwn) {
  EXPECT_TRUE(backend_->has_own_memory());
  EXPECT_NE(backend_->description().find("cuda "), std::string::npos)
      << backend_->description();
}

TEST_P(DeviceMemoryTest, MemoryIsZeroAndAligned) {
  for (const size_t size_bytes : {1, 64, 1000, 100'000}) {
    const auto device = backend_->Allocate(size_bytes);
    ASSERT_TRUE(device.ok()) << device.status();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(device->data()) % 64, 0u);
    EXPECT_EQ(Download<std::byte>(*device), std::vector<std::byte>(size_bytes));
    const auto host = backend_->AllocateHost(size_bytes);
    ASSERT_TRUE(host.ok()) << host.status();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(host->data()) % 64, 0u);
    EXPECT_EQ(std::vector<std::byte>(host->as<std::byte>(),
                                     host->as<std::byte>() + size_bytes),
              std::vector<std::byte>(size_bytes));
  }
  EXPECT_TRUE(backend_->Allocate(0).ok());
}

// A copy into new memory must not be overtaken by its zeros.
TEST_P(DeviceMemoryTest, CopiesIntoNewMemoryComeAfterItsZeros) {
  const auto host = backend_->AllocateHost(64);
  ASSERT_TRUE(host.ok());
  std::memset(host->data(), 7, 64);
  const auto device = backend_->Allocate(64);
  ASSERT_TRUE(device.ok());
  const CopyRun run = {device->data(), host->data(), 64};
  ASSERT_TRUE(backend_->Transfer(DeviceStream::kToDevice, {&run, 1}).ok());
  ASSERT_TRUE(backend_->Synchronize().ok());
  EXPECT_EQ(Download<std::byte>(*device),
            std::vector<std::byte>(64, std::byte{7}));
}

TEST_P(DeviceMemoryTest, CopiesOfAnySizeComeBack) {
  for (const size_t size_bytes : {1, 255, 256, 257, 5000}) {
    std::vector<uint8_t> bytes(size_bytes);
    std::iota(bytes.begin(), bytes.end(), uint8_t{3});
    const std::vector<uint8_t> expected = bytes;
    const Buffer device = Upload(bytes);
    // The source was read before CopyToDevice returned.
    std::fill(bytes.begin(), bytes.end(), uint8_t{0});
    EXPECT_EQ(Download<uint8_t>(device), expected);
  }
}

TEST_P(DeviceMemoryTest, ArraysOfOperationsAreReadBeforeTheyReturn) {
  const Buffer x = Upload(RandomFloats(100 * 4, 1));
  const std::vector<float> values = Download<float>(x);
  const Buffer out = Upload(std::vector<float>(300 * 4));
  std::vector<int32_t> rows(20);
  std::vector<float> expected;
  for (int64_t i = 0; i < 15; ++i) {
    for (size_t r = 0; r < rows.size(); ++r) {
      rows[r] = static_cast<int32_t>((i * 31 + r * 7) % 100);
      expected.insert(expected.end(), values.begin() + rows[r] * 4,
                      values.begin() + rows[r] * 4 + 4);
    }
    ASSERT_TRUE(backend_
                    ->GatherRows({x.as<float>(), rows.data(),
                                  out.as<float>() + i * 80, 20, 4})
                    .ok());
    std::fill(rows.begin(), rows.end(), -1);
  }
  EXPECT_EQ(Download<float>(out), expected);
}

TEST_P(DeviceMemoryTest, OperationsMayHaveMoreThanTheRingHolds) {
  const std::vector<float> values = RandomFloats(7, 1);
  const Buffer x = Upload(values);
  for (const int64_t count : {50, 1000, 3000, 10}) {
    std::vector<int32_t> rows(count);
    std::vector<float> expected;
    for (int64_t i = 0; i < count; ++i) {
      rows[i] = static_cast<int32_t>(i * i % 7);
      expected.push_back(values[rows[i]]);
    }
    const Buffer out = Upload(std::vector<float>(count));
    ASSERT_TRUE(backend_
                    ->GatherRows(
                        {x.as<float>(), rows.data(), out.as<float>(), count, 1})
                    .ok());
    EXPECT_EQ(Download<float>(out), expected);
  }
}

TEST_P(DeviceMemoryTest, CopiesAreOrderedByEvents) {
  for (uint32_t seed = 0; seed < 4; ++seed) {
    SCOPED_TRACE(seed);
    CopiesProgram program(*backend_, seed);
    ASSERT_TRUE(program.Start().ok());
    for (int step = 0; step < 80; ++step) {
      const absl::Status status = program.Step(/*waits=*/true);
      ASSERT_TRUE(status.ok()) << status;
    }
    bool is_right = false;
    const absl::Status status = program.Finish(&is_right);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_TRUE(is_right);
  }
}

TEST_P(DeviceMemoryTest, EventsRiseAndMayHavePassed) {
  const auto first = backend_->Record(DeviceStream::kToDevice);
  ASSERT_TRUE(first.ok());
  const auto second = backend_->Record(DeviceStream::kToDevice);
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(first->stream, DeviceStream::kToDevice);
  EXPECT_GT(first->number, 0u);
  EXPECT_GT(second->number, first->number);
  ASSERT_TRUE(backend_->Synchronize().ok());
  ASSERT_TRUE(backend_->Record(DeviceStream::kToDevice).ok());
  EXPECT_TRUE(backend_->Wait(DeviceStream::kCompute, *first).ok());
  EXPECT_TRUE(backend_->Wait(DeviceStream::kToDevice, *second).ok());
  EXPECT_TRUE(
      backend_->Wait(DeviceStream::kCompute, {DeviceStream::kToHost, 0}).ok());
  const DeviceEvent never = {DeviceStream::kToHost, 1000};
  EXPECT_TRUE(
      absl::IsInvalidArgument(backend_->Wait(DeviceStream::kCompute, never)));
}

TEST_P(DeviceMemoryTest, RefusesWhatItCannotCopy) {
  const Buffer device = Upload(std::vector<float>(4));
  float host[4] = {};
  EXPECT_TRUE(
      absl::IsInvalidArgument(backend_->CopyToDevice(nullptr, host, 4)));
  EXPECT_TRUE(absl::IsInvalidArgument(
      backend_->CopyToDevice(device.data(), nullptr, 4)));
  EXPECT_TRUE(
      absl::IsInvalidArgument(backend_->CopyToHost(nullptr, device.data(), 4)));
  EXPECT_TRUE(backend_->CopyToHost(nullptr, nullptr, 0).ok());
  const CopyRun no_source = {device.data(), nullptr, 4};
  EXPECT_TRUE(absl::IsInvalidArgument(
      backend_->Transfer(DeviceStream::kToDevice, {&no_source, 1})));
  EXPECT_TRUE(
      absl::IsInvalidArgument(backend_->Transfer(DeviceStream::kCompute, {})));
  EXPECT_TRUE(backend_->Transfer(DeviceStream::kToHost, {}).ok());
}

TEST_P(DeviceMemoryTest, SaysHowMuchMemoryWasWanted) {
  const auto buffer = backend_->Allocate(size_t{1} << 50);
  ASSERT_TRUE(absl::IsResourceExhausted(buffer.status())) << buffer.status();
  EXPECT_NE(buffer.status().message().find("1125899906842624"),
            absl::string_view::npos)
      << buffer.status();
  // The device works on.
  EXPECT_EQ(Download<float>(Upload(std::vector<float>(9, 1.5f))),
            std::vector<float>(9, 1.5f));
}

}  // namespace
}  // namespace sentencekv
