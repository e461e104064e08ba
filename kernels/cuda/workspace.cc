#include "kernels/cuda/workspace.h"

#include "kernels/status_macros.h"

namespace sentencekv {

absl::StatusOr<std::byte*> Workspace::AtLeast(size_t size_bytes) {
  if (size_bytes > memory_.size_bytes()) {
    // Kernels that were launched may still use it.
    SKV_RETURN_IF_ERROR(streams_.AwaitAll());
    memory_ = DeviceMemory();
    SKV_ASSIGN_OR_RETURN(memory_, DeviceMemory::Allocate(size_bytes));
  }
  return memory_.data();
}

}  // namespace sentencekv
