#include "server/process_stats.h"

#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

namespace sentencekv {
namespace {

// The limit of a control group (version 2, then 1); 0 when there is none
// ("max" does not parse as a number).
int64_t ControlGroupLimit() {
  for (const char* path : {"/sys/fs/cgroup/memory.max",
                           "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream file(path);
    int64_t bytes = 0;
    if (file >> bytes) return bytes;
  }
  return 0;
}

}  // namespace

ProcessStats ReadProcessStats() {
  ProcessStats stats;
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    std::istringstream words(line);
    std::string name;
    int64_t value = 0;
    if (!(words >> name >> value)) continue;
    if (name == "VmRSS:") stats.resident_bytes = value * 1024;  // in kB
    if (name == "Threads:") stats.threads = value;
  }
  return stats;
}

int64_t PhysicalMemoryBytes() {
  const int64_t machine =
      static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  const int64_t limit = ControlGroupLimit();
  if (machine <= 0) return limit > 0 ? limit : 0;
  return limit > 0 && limit < machine ? limit : machine;
}

}  // namespace sentencekv
