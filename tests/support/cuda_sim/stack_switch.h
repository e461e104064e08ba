// Tells AddressSanitizer of each change of stacks, without which it takes one
// fibre's frames for another's. Nothing where it is not on.
#pragma once

#include <cstddef>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_sim {

struct Stack {
  const void* begin = nullptr;
  size_t size_bytes = 0;
};

// Before a jump to another stack. `kept` is what AfterSwitch gets when the code
// that jumps goes on; null: it never does.
inline void BeforeSwitch([[maybe_unused]] const Stack& to,
                         [[maybe_unused]] void** kept) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(kept, to.begin, to.size_bytes);
#endif
}

// The first thing on the stack that was jumped to; `kept` is null where it is
// new. Gives the stack that the jump came from.
inline Stack AfterSwitch([[maybe_unused]] void* kept) {
  Stack from;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(kept, &from.begin, &from.size_bytes);
#endif
  return from;
}

// Frames that nobody will return to.
inline void ForgetFrames([[maybe_unused]] const Stack& stack) {
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(stack.begin, stack.size_bytes);
#endif
}

}  // namespace cuda_sim
