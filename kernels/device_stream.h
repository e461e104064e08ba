// Copies between host memory and a device that has memory of its own.
//
// Such a device works in three streams. Each does what it was given in order;
// between streams only events order anything. An event is a point in a stream:
// it has passed when everything submitted to the stream before it is done.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sentencekv {

enum class DeviceStream : uint8_t {
  kCompute,   // all operations of kernels/op_params.h
  kToDevice,  // copies from host memory
  kToHost,    // copies to host memory, and inside it
};
inline constexpr size_t kNumDeviceStreams = 3;

struct DeviceEvent {
  DeviceStream stream = DeviceStream::kCompute;
  uint64_t number = 0;  // rises within a stream; 0: has passed
};

// Bytes that lie together in both memories.
struct CopyRun {
  void* destination = nullptr;
  const void* source = nullptr;
  size_t size_bytes = 0;
};

}  // namespace sentencekv
