#include "kernels/cuda/workspace.h"

#include "kernels/status_macros.h"

namespace sentencekv {

absl::StatusOr<std::byte*> Workspace::AtLeast(size_t size_bytes) {
  if (size_bytes > memory_.size_bytes()) {
    // Kernels that were launched may still use it, and come first.
    memory_ = DeviceMemory();
    SKV_ASSIGN_OR_RETURN(
        memory_,
        DeviceMemory::Allocate(arena_, size_bytes, MemoryUse::kWorkspace));
  }
  return memory_.data();
}

}  // namespace sentencekv
