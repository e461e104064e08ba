// What -fsanitize=thread calls before each load and store, defined by us: its
// library is not linked.
#include <cstddef>
#include <cstdint>

#include "tests/support/cuda_sim/access_check.h"
#include "tests/support/cuda_sim/fiber_exec.h"

namespace {

using cuda_sim::AccessKind;

// Host code of a .cu file comes by here too, and is let through.
inline void Hook(const void* address, size_t size, AccessKind kind,
                 size_t alignment, const void* return_address) {
  const cuda_sim::RunningThread* thread = cuda_sim::running_thread;
  if (thread == nullptr) return;
  // Its own variables are a thread's own business.
  if (reinterpret_cast<uintptr_t>(address) - thread->stack_begin <
      cuda_sim::kStackBytes) {
    return;
  }
  cuda_sim::CheckAccess(reinterpret_cast<uintptr_t>(address), size, kind,
                        alignment, return_address);
}

}  // namespace

#define CUDA_SIM_HOOK(name, size, kind, alignment)                     \
  extern "C" void name(const void* address) {                          \
    Hook(address, size, kind, alignment, __builtin_return_address(0)); \
  }
#define CUDA_SIM_HOOKS(size)                                      \
  CUDA_SIM_HOOK(__tsan_read##size, size, AccessKind::kRead, size) \
  CUDA_SIM_HOOK(__tsan_write##size, size, AccessKind::kWrite, size)
#define CUDA_SIM_UNALIGNED_HOOKS(size)                                   \
  CUDA_SIM_HOOK(__tsan_unaligned_read##size, size, AccessKind::kRead, 1) \
  CUDA_SIM_HOOK(__tsan_unaligned_write##size, size, AccessKind::kWrite, 1)
CUDA_SIM_HOOKS(1)
CUDA_SIM_HOOKS(2)
CUDA_SIM_HOOKS(4)
CUDA_SIM_HOOKS(8)
CUDA_SIM_HOOKS(16)
CUDA_SIM_UNALIGNED_HOOKS(2)
CUDA_SIM_UNALIGNED_HOOKS(4)
CUDA_SIM_UNALIGNED_HOOKS(8)
CUDA_SIM_UNALIGNED_HOOKS(16)

extern "C" void __tsan_read_range(const void* address, size_t size) {
  Hook(address, size, AccessKind::kRead, 1, __builtin_return_address(0));
}
extern "C" void __tsan_write_range(const void* address, size_t size) {
  Hook(address, size, AccessKind::kWrite, 1, __builtin_return_address(0));
}
extern "C" void __tsan_init() {}
