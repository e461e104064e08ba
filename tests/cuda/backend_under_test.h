// The CUDA backend that a test runs on: of the simulated device, or of a GPU,
// depending on what the test is linked with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/backend.h"

namespace sentencekv {

// Seeds for the order of threads, blocks and operations; a GPU has its own.
std::vector<uint64_t> DeviceSeeds();

// Fixture of a test on one backend. Where there is no device the test is
// skipped, with the reason; with SENTENCEKV_REQUIRE_CUDA=1 it fails. A
// simulated device must have found nothing wrong, and hold nothing afterwards.
class CudaBackendTest : public testing::TestWithParam<uint64_t> {
 protected:
  // `staging_bytes` as CudaBackendOptions has it.
  explicit CudaBackendTest(size_t staging_bytes = size_t{64} << 10)
      : staging_bytes_(staging_bytes) {}
  void SetUp() override;
  void TearDown() override;

  // A buffer on the device that holds a copy of `values`.
  template <typename T>
  Buffer Upload(const std::vector<T>& values) {
    auto buffer = backend_->Allocate(values.size() * sizeof(T));
    EXPECT_TRUE(buffer.ok()) << buffer.status();
    if (!buffer.ok()) return Buffer();
    const absl::Status status = backend_->CopyToDevice(
        buffer->data(), values.data(), values.size() * sizeof(T));
    EXPECT_TRUE(status.ok()) << status;
    return *std::move(buffer);
  }
  // A copy of what the device has at `from`.
  template <typename T>
  std::vector<T> Download(const T* from, int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    const absl::Status status =
        backend_->CopyToHost(values.data(), from, values.size() * sizeof(T));
    EXPECT_TRUE(status.ok()) << status;
    return values;
  }
  template <typename T>
  std::vector<T> Download(const Buffer& from) {
    return Download(from.as<const T>(),
                    static_cast<int64_t>(from.size_bytes() / sizeof(T)));
  }

  std::unique_ptr<Backend> backend_;
  // The oracle, on one thread and without fused operations.
  std::unique_ptr<Backend> cpu_;

 private:
  const size_t staging_bytes_;
};

}  // namespace sentencekv
