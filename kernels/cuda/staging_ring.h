// The way of small arrays of host memory to the device: a ring of pinned memory
// beside a ring of device memory. An operation reserves room, fills it, sends
// it ahead of its kernels in the compute stream, and goes on.
//
// The ring is in segments. Room is used again when the event behind the last
// operation that was given room in its segment has passed. One thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/check.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_streams.h"
#include "kernels/device_stream.h"
#include "kernels/rounding.h"

namespace sentencekv {

// Room for the arrays of one operation, in both memories.
class StagedArrays {
 public:
  StagedArrays(std::byte* host, std::byte* device, size_t capacity_bytes)
      : host_(host), device_(device), capacity_bytes_(capacity_bytes) {}

  // Bytes that an array takes of the room.
  template <typename T>
  static constexpr size_t Bytes(int64_t count) {
    return AlignedBytes(static_cast<size_t>(count) * sizeof(T));
  }

  // Room for an array: to be filled at `host`, and found by kernels at
  // `device`.
  template <typename T>
  struct Array {
    T* host;
    T* device;
  };
  template <typename T>
  Array<T> Add(int64_t count) {
    const size_t begin = size_bytes_;
    size_bytes_ += Bytes<T>(count);
    SKV_CHECK(size_bytes_ <= capacity_bytes_);
    return {reinterpret_cast<T*>(host_ + begin),
            reinterpret_cast<T*>(device_ + begin)};
  }
  // A copy of an array; where kernels find it.
  template <typename T>
  const T* Put(std::span<const T> values) {
    const Array<T> array = Add<T>(std::ssize(values));
    if (!values.empty()) {
      std::memcpy(array.host, values.data(), values.size_bytes());
    }
    return array.device;
  }

  // To a multiple of what arrays are aligned to.
  static constexpr size_t AlignedBytes(size_t bytes) {
    return RoundUp(bytes, 64);
  }

  std::byte* host() const { return host_; }
  std::byte* device() const { return device_; }
  size_t size_bytes() const { return size_bytes_; }

 private:
  std::byte* host_;
  std::byte* device_;
  size_t capacity_bytes_;
  size_t size_bytes_ = 0;
};

class StagingRing {
 public:
  // An operation of up to segment_bytes takes no memory of the system.
  static absl::StatusOr<std::unique_ptr<StagingRing>> Create(
      CudaStreams& streams, DeviceArena& arena, PinnedPool& pinned,
      size_t segment_bytes);

  size_t segment_bytes() const { return segment_bytes_; }

  // Waits until so much room may be used again. What was reserved before is the
  // kernels' that have been launched: nothing may be added to it any more.
  absl::StatusOr<StagedArrays> Reserve(size_t size_bytes);
  // Copies the arrays to the device, ahead of what is launched next.
  absl::Status Send(const StagedArrays& arrays);

  // Copies between any host memory and the device, through the ring and in the
  // compute stream, of any size. FromHost has read the source when it returns,
  // ToHost has written the destination.
  absl::Status CopyFromHost(std::byte* device, const std::byte* host,
                            size_t size_bytes);
  absl::Status CopyToHost(std::byte* host, const std::byte* device,
                          size_t size_bytes);

 private:
  static constexpr size_t kNumSegments = 4;

  StagingRing(CudaStreams& streams, DeviceArena& arena, PinnedPool& pinned)
      : streams_(streams), arena_(arena), pinned_(pinned) {}
  // Both memories, with segments of that size.
  absl::Status Allocate(size_t segment_bytes);
  // Goes on in the next segment.
  absl::Status NextSegment();

  CudaStreams& streams_;
  DeviceArena& arena_;
  PinnedPool& pinned_;
  PinnedMemory host_;
  DeviceMemory device_;
  size_t segment_bytes_ = 0;
  size_t current_ = 0;     // segment
  size_t used_bytes_ = 0;  // of it
  // When the segment's last users are done.
  std::array<DeviceEvent, kNumSegments> done_ = {};
};

}  // namespace sentencekv
