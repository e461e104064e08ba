// Device memory for what the kernels of one operation hand to each other.
#pragma once

#include <cstddef>

#include "absl/status/statusor.h"
#include "kernels/cuda/cuda_memory.h"

namespace sentencekv {

// Grows to what the largest operation so far needed; contents are not kept from
// one operation to the next. One thread, and the compute stream.
class Workspace {
 public:
  explicit Workspace(DeviceArena& arena) : arena_(arena) {}

  absl::StatusOr<std::byte*> AtLeast(size_t size_bytes);
  template <typename T>
  absl::StatusOr<T*> AtLeast(int64_t count);

 private:
  DeviceArena& arena_;
  DeviceMemory memory_;
};

template <typename T>
absl::StatusOr<T*> Workspace::AtLeast(int64_t count) {
  auto data = AtLeast(static_cast<size_t>(count) * sizeof(T));
  if (!data.ok()) return data.status();
  return reinterpret_cast<T*>(*data);
}

}  // namespace sentencekv
