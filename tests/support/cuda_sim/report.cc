#include "tests/support/cuda_sim/report.h"

#include <fmt/format.h>
#include <link.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <utility>

namespace cuda_sim {
namespace {

std::vector<Report>& Reports() {
  static std::vector<Report> reports;
  return reports;
}

// Where the program was loaded: addr2line counts from there.
uintptr_t ProgramBase() {
  uintptr_t base = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* result) {
        *static_cast<uintptr_t*>(result) = info->dlpi_addr;
        return 1;  // the first is the program
      },
      &base);
  return base;
}

// Two lines of addr2line: the function, and file:line.
std::array<std::string, 2> Symbolize(uintptr_t address) {
  std::array<std::string, 2> lines;
  const std::string command =
      fmt::format("addr2line -Cfe /proc/{}/exe {:#x} 2>/dev/null", getpid(),
                  address - ProgramBase());
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return lines;
  for (std::string& line : lines) {
    std::array<char, 1024> text;
    if (std::fgets(text.data(), text.size(), pipe) == nullptr) break;
    line.assign(text.data(), std::strcspn(text.data(), "\n"));
  }
  pclose(pipe);
  return lines;
}

std::string WithoutFolder(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

}  // namespace

std::string_view FindingName(Finding finding) {
  switch (finding) {
    case Finding::kOutOfBounds:
      return "out of bounds";
    case Finding::kUseAfterFree:
      return "use after free";
    case Finding::kUnpinnedHostMemory:
      return "host memory that is not pinned";
    case Finding::kOtherThreadsLocal:
      return "another thread's local memory";
    case Finding::kMisaligned:
      return "misaligned";
    case Finding::kUnwrittenShared:
      return "unwritten shared memory";
    case Finding::kUnfinishedCopy:
      return "unfinished asynchronous copy";
    case Finding::kThreadRace:
      return "race of threads";
    case Finding::kBlockRace:
      return "race of blocks";
    case Finding::kOperationRace:
      return "race of operations";
    case Finding::kBarrierDivergence:
      return "barrier divergence";
    case Finding::kWarpDivergence:
      return "warp divergence";
    case Finding::kHostTouchedDeviceMemory:
      return "host touched device memory";
    case Finding::kHostChangedSource:
      return "host changed the source of a copy";
    case Finding::kUnpinnedCopy:
      return "asynchronous copy of unpinned memory";
    case Finding::kRuntimeMisuse:
      return "misuse of the runtime";
  }
  return "";
}

void AddReport(Finding finding, std::string text) {
  std::fprintf(stderr, "cuda_sim: %s: %s\n",
               std::string(FindingName(finding)).c_str(), text.c_str());
  Reports().push_back({finding, std::move(text)});
}

bool HasReports() { return !Reports().empty(); }

std::vector<Report> TakeReports() { return std::exchange(Reports(), {}); }

std::string Text(Place place) {
  return fmt::format("{}:{}", WithoutFolder(place.file), place.line);
}

std::string PlaceOf(const void* return_address) {
  const std::string line =
      Symbolize(reinterpret_cast<uintptr_t>(return_address) - 1)[1];
  return line.empty() ? fmt::format("{}", return_address)
                      : WithoutFolder(line.substr(0, line.find(" (")));
}

std::string FunctionName(const void* function) {
  std::string name = Symbolize(reinterpret_cast<uintptr_t>(function))[0];
  for (const std::string prefix :
       {"void ", "sentencekv::", "(anonymous namespace)::"}) {
    for (size_t at; (at = name.find(prefix)) != std::string::npos;) {
      name.erase(at, prefix.size());
    }
  }
  return name.substr(0, name.find('('));
}

}  // namespace cuda_sim
