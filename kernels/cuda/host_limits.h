// How much host memory may be locked: locked memory cannot be taken back, so a
// limit is better found before than by being killed at it.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/status.h"

namespace sentencekv {

// OK, or kResourceExhausted with the limit that locking so much more would
// break, the file it stands in, its value, and what was asked: memory that the
// machine has available, the limits of our control group and of those above it
// (cgroup v2 or v1). Files of the cache count as free, as the system gives them
// up. Limits that cannot be read are no limits. `root` has proc/ and sys/.
absl::Status CheckHostLimits(size_t size_bytes, const std::string& root = "/");

// For the message when locking failed: what RLIMIT_MEMLOCK is, if it is less.
// NVIDIA's driver does not count what it locks against it, so it is no reason
// to refuse before.
std::string LockLimitText(size_t size_bytes);

}  // namespace sentencekv
