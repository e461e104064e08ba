// For tests: a fresh simulated device, and memory on it.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "tests/support/cuda_sim/cuda_sim.h"
#include "tests/support/cuda_sim/nothing_left.h"

namespace cuda_sim {

// One stream on a fresh device. At its end every finding that was not taken
// fails the test.
class SimDevice {
 public:
  explicit SimDevice(uint64_t seed, size_t device_bytes = size_t{1} << 30) {
    Reset({seed, device_bytes});
    stream_ = NewStream();
  }
  ~SimDevice() {
    ExpectNothingFound();
    Reset({});
  }
  SimDevice(const SimDevice&) = delete;
  SimDevice& operator=(const SimDevice&) = delete;

  cudaStream_t stream() const { return stream_; }
  cudaStream_t NewStream() {
    cudaStream_t stream = nullptr;
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
              cudaSuccess);
    return stream;
  }
  cudaEvent_t NewEvent() {
    cudaEvent_t event = nullptr;
    EXPECT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming),
              cudaSuccess);
    return event;
  }

  // Memory that lasts as long as the device does.
  template <typename T>
  T* Device(size_t count) {
    void* memory = nullptr;
    EXPECT_EQ(cudaMalloc(&memory, count * sizeof(T)), cudaSuccess);
    return static_cast<T*>(memory);
  }
  template <typename T>
  T* Pinned(size_t count) {
    void* memory = nullptr;
    EXPECT_EQ(cudaHostAlloc(&memory, count * sizeof(T), 0), cudaSuccess);
    return static_cast<T*>(memory);
  }

  // Device memory with these values; the host has waited.
  template <typename T>
  T* Upload(const std::vector<T>& values) {
    T* device = Device<T>(std::max<size_t>(values.size(), 1));
    if (values.empty()) return device;
    T* pinned = Pinned<T>(values.size());
    std::copy(values.begin(), values.end(), pinned);
    EXPECT_EQ(cudaMemcpyAsync(device, pinned, values.size() * sizeof(T),
                              cudaMemcpyHostToDevice, stream_),
              cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    cudaFreeHost(pinned);
    return device;
  }
  // What the device has there once the stream is done; empty when it failed.
  template <typename T>
  std::vector<T> Download(const T* device, size_t count) {
    if (count == 0) return {};
    T* pinned = Pinned<T>(count);
    if (cudaMemcpyAsync(pinned, device, count * sizeof(T),
                        cudaMemcpyDeviceToHost, stream_) != cudaSuccess ||
        cudaStreamSynchronize(stream_) != cudaSuccess) {
      return {};
    }
    std::vector<T> values(pinned, pinned + count);
    cudaFreeHost(pinned);
    return values;
  }

 private:
  cudaStream_t stream_ = nullptr;
};

}  // namespace cuda_sim
