// The three streams of a device, the events that order them, and the copies
// that they are given: kernels/device_stream.h on CUDA.
//
// All streams are non-blocking: nothing but events orders them. One thread.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/pinned_pool.h"
#include "kernels/device_stream.h"

namespace sentencekv {

class CudaStreams {
 public:
  static absl::StatusOr<std::unique_ptr<CudaStreams>> Create();
  // Waits for everything that was submitted.
  ~CudaStreams();
  CudaStreams(const CudaStreams&) = delete;
  CudaStreams& operator=(const CudaStreams&) = delete;

  // What operations are launched in.
  cudaStream_t compute() const { return handle(DeviceStream::kCompute); }
  cudaStream_t handle(DeviceStream stream) const {
    return streams_[static_cast<size_t>(stream)].handle;
  }

  // The methods of Backend. No copy crosses from one piece of pinned memory
  // into the next.
  absl::Status Transfer(DeviceStream stream, std::span<const CopyRun> runs,
                        const PinnedPool& pinned);
  absl::StatusOr<DeviceEvent> Record(DeviceStream stream);
  absl::Status Wait(DeviceStream stream, const DeviceEvent& event);

  absl::StatusOr<bool> HasPassed(const DeviceEvent& event);
  // The caller waits, for an event or for everything.
  absl::Status Await(const DeviceEvent& event);
  absl::Status AwaitAll();

 private:
  struct RecordedEvent {
    uint64_t number;
    cudaEvent_t event;
  };
  struct Stream {
    cudaStream_t handle = nullptr;
    uint64_t last_number = 0;
    std::deque<RecordedEvent> recorded;  // those that may not have passed
  };

  CudaStreams() = default;
  Stream& of(DeviceStream stream) {
    return streams_[static_cast<size_t>(stream)];
  }
  // Null when the event has passed and was taken back.
  absl::StatusOr<cudaEvent_t> Find(const DeviceEvent& event);
  // Takes back the events of a stream that have passed.
  absl::Status Reclaim(Stream& stream);
  absl::StatusOr<cudaEvent_t> TakeIdle();

  std::array<Stream, kNumDeviceStreams> streams_;
  std::vector<cudaEvent_t> idle_;
};

}  // namespace sentencekv
