// What the operating system says of this process. Any thread.
#pragma once

#include <cstdint>

namespace sentencekv {

struct ProcessStats {
  int64_t resident_bytes = 0;
  int64_t threads = 0;
};

// Reads /proc/self/status; zeros where there is none.
ProcessStats ReadProcessStats();

// Bytes of physical memory of this machine, or of the control group that the
// process runs in where that is less; 0 when unknown.
int64_t PhysicalMemoryBytes();

}  // namespace sentencekv
