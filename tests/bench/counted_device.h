// A simulated device for a program that counts what operations do to memory.
// Whatever goes wrong ends the program with a message.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/support/cuda_sim/cuda_sim.h"

namespace sentencekv {

[[noreturn]] void FailCounting(const std::string& message);
void Must(cudaError_t error);
void Must(const absl::Status& status);
template <typename T>
T Must(absl::StatusOr<T> result) {
  Must(result.status());
  return *std::move(result);
}

using OperationCounts = std::vector<cuda_sim::OperationCount>;

// What operations did while `work` ran, which waits for them.
OperationCounts CountsOf(const std::function<void()>& work);
// Adds up what operations of the same name did.
void AddCounts(const OperationCounts& more, OperationCounts* sum);
// The same of one name; none did nothing.
cuda_sim::OperationCount CountOf(const OperationCounts& counts,
                                 std::string_view name);

// One stream on a fresh device; memory lasts as long as the device.
class CountedDevice {
 public:
  CountedDevice();
  ~CountedDevice();
  CountedDevice(const CountedDevice&) = delete;
  CountedDevice& operator=(const CountedDevice&) = delete;

  cudaStream_t stream() const { return stream_; }
  // Undefined contents.
  template <typename T>
  T* Device(int64_t count) {
    return static_cast<T*>(DeviceBytes(count * sizeof(T)));
  }
  template <typename T>
  T* Zeros(int64_t count) {
    T* const memory = Device<T>(count);
    Must(cudaMemsetAsync(memory, 0, count * sizeof(T), stream_));
    return memory;
  }
  template <typename T>
  T* Pinned(int64_t count) {
    return static_cast<T*>(PinnedBytes(count * sizeof(T)));
  }
  // Writes to device memory, and waits.
  template <typename T>
  void Write(T* to, const std::vector<T>& values) {
    T* const pinned = Pinned<T>(std::ssize(values));
    std::copy(values.begin(), values.end(), pinned);
    Must(cudaMemcpyAsync(to, pinned, values.size() * sizeof(T),
                         cudaMemcpyHostToDevice, stream_));
    Must(cudaStreamSynchronize(stream_));
    Must(cudaFreeHost(pinned));
  }
  template <typename T>
  T* Upload(const std::vector<T>& values) {
    T* const memory = Device<T>(std::ssize(values));
    Write(memory, values);
    return memory;
  }
  template <typename T>
  std::vector<T> Download(const T* from, int64_t count) {
    T* const pinned = Pinned<T>(count);
    Must(cudaMemcpyAsync(pinned, from, count * sizeof(T),
                         cudaMemcpyDeviceToHost, stream_));
    Must(cudaStreamSynchronize(stream_));
    std::vector<T> values(pinned, pinned + count);
    Must(cudaFreeHost(pinned));
    return values;
  }

 private:
  void* DeviceBytes(size_t size_bytes);
  void* PinnedBytes(size_t size_bytes);

  cudaStream_t stream_ = nullptr;
};

}  // namespace sentencekv
