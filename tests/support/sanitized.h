// Whether this build is instrumented: slower, with memory of its own.
#pragma once

namespace sentencekv {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kIsSanitized = true;
#else
inline constexpr bool kIsSanitized = false;
#endif

}  // namespace sentencekv
