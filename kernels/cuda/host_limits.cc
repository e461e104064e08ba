#include "kernels/cuda/host_limits.h"

#include <sys/resource.h>

#include <cstdint>
#include <fstream>
#include <optional>
#include <sstream>
#include <string_view>

#include "fmt/format.h"
#include "kernels/memory_budget.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// Values of v1 at and above this stand for none: "unlimited" is the largest
// whole number of pages in 63 bits.
constexpr uint64_t kNoLimit = uint64_t{1} << 62;

// The first number of a file; nothing for "max" and for no file.
std::optional<uint64_t> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  uint64_t number = 0;
  if (!(file >> number)) return std::nullopt;
  return number;
}

// The number behind `name` in a file of lines "name number".
std::optional<uint64_t> ReadNumberOf(const std::string& path,
                                     std::string_view name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string first;
    uint64_t number = 0;
    if (words >> first >> number && first == name) return number;
  }
  return std::nullopt;
}

absl::Status Refused(size_t size_bytes, std::string_view why) {
  return absl::ResourceExhaustedError(
      fmt::format("cannot lock {} bytes ({}) of host memory: {}", size_bytes,
                  ByteSizeText(size_bytes), why));
}

absl::Status CheckMachine(size_t size_bytes, const std::string& root) {
  const std::string path = root + "proc/meminfo";
  const std::optional<uint64_t> kib = ReadNumberOf(path, "MemAvailable:");
  if (!kib.has_value() || size_bytes / 1024 <= *kib) return absl::OkStatus();
  return Refused(
      size_bytes,
      fmt::format("the machine has {} KiB available, says {}", *kib, path));
}

// What the versions of control groups call their files.
struct CgroupFiles {
  const char* folder;  // below root
  const char* limit;
  const char* usage;
  // Lines of memory.stat that add up to the cache of files.
  const char* active_file;
  const char* inactive_file;
};
constexpr CgroupFiles kVersion2 = {"sys/fs/cgroup", "memory.max",
                                   "memory.current", "active_file",
                                   "inactive_file"};
constexpr CgroupFiles kVersion1 = {
    "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
    "total_active_file", "total_inactive_file"};

absl::Status CheckGroup(size_t size_bytes, const CgroupFiles& files,
                        const std::string& folder) {
  const std::string limit_path = folder + "/" + files.limit;
  const std::optional<uint64_t> limit = ReadNumber(limit_path);
  if (!limit.has_value() || *limit >= kNoLimit) return absl::OkStatus();
  const uint64_t usage = ReadNumber(folder + "/" + files.usage).value_or(0);
  const std::string stat = folder + "/memory.stat";
  const uint64_t cache = ReadNumberOf(stat, files.active_file).value_or(0) +
                         ReadNumberOf(stat, files.inactive_file).value_or(0);
  const uint64_t kept = usage > cache ? usage - cache : 0;
  if (kept <= *limit && size_bytes <= *limit - kept) return absl::OkStatus();
  return Refused(
      size_bytes,
      fmt::format("the limit of the container in {} is {} bytes ({}), of which "
                  "{} are in use without the cache of files",
                  limit_path, *limit, ByteSizeText(*limit), kept));
}

// The group and all above it: a limit holds for everything below.
absl::Status CheckGroups(size_t size_bytes, const CgroupFiles& files,
                         const std::string& root, std::string group) {
  const std::string top = root + files.folder;
  while (!group.empty() && group != "/") {
    SKV_RETURN_IF_ERROR(CheckGroup(size_bytes, files, top + group));
    group.resize(group.find_last_of('/'));
  }
  return CheckGroup(size_bytes, files, top);
}

// Whether the list "cpu,memory" of controllers has `memory`.
bool HasMemory(std::string_view controllers) {
  while (!controllers.empty()) {
    const size_t comma = controllers.find(',');
    if (controllers.substr(0, comma) == "memory") return true;
    if (comma == std::string_view::npos) break;
    controllers.remove_prefix(comma + 1);
  }
  return false;
}

}  // namespace

absl::Status CheckHostLimits(size_t size_bytes, const std::string& root) {
  SKV_RETURN_IF_ERROR(CheckMachine(size_bytes, root));
  // Lines "number:controllers:/group"; version 2 has the number 0.
  std::ifstream file(root + "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string group = line.substr(second + 1);
    if (!group.starts_with('/')) continue;
    if (line.starts_with("0::")) {
      SKV_RETURN_IF_ERROR(CheckGroups(size_bytes, kVersion2, root, group));
    } else if (HasMemory(std::string_view(line).substr(first + 1,
                                                       second - first - 1))) {
      SKV_RETURN_IF_ERROR(CheckGroups(size_bytes, kVersion1, root, group));
    }
  }
  return absl::OkStatus();
}

std::string LockLimitText(size_t size_bytes) {
  rlimit limit = {};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 ||
      limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= size_bytes) {
    return "";
  }
  return fmt::format(" (RLIMIT_MEMLOCK is {} bytes)",
                     static_cast<uint64_t>(limit.rlim_cur));
}

}  // namespace sentencekv
