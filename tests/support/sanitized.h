// Whether this build is instrumented: slower, with memory of its own.
#pragma once

namespace sentencekv {

// The build says so: __SANITIZE_THREAD__ is hidden from whatever sees protobuf.
inline constexpr bool kIsSanitized = SENTENCEKV_IS_SANITIZED;

}  // namespace sentencekv
