#include "tests/support/cuda_sim/report.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <map>
#include <utility>

#include "tests/support/cuda_sim/program_image.h"

namespace cuda_sim {
namespace {

std::vector<Report>& Reports() {
  static std::vector<Report> reports;
  return reports;
}

// addr2line's answer: a function and a file:line for each of the functions that
// were inlined here, innermost first.
const std::vector<std::string>& Symbolize(uintptr_t address) {
  static std::map<uintptr_t, std::vector<std::string>> known;
  std::vector<std::string>& lines = known[address];
  if (!lines.empty()) return lines;
  const std::string command =
      fmt::format("addr2line -Cfie /proc/{}/exe {:#x} 2>/dev/null", getpid(),
                  address - ProgramBase());
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe != nullptr) {
    std::array<char, 1024> text;
    while (std::fgets(text.data(), text.size(), pipe) != nullptr) {
      lines.emplace_back(text.data(), std::strcspn(text.data(), "\n"));
    }
    pclose(pipe);
  }
  if (lines.size() < 2) lines.assign(2, fmt::format("{:#x}", address));
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
  const std::vector<std::string>& lines =
      Symbolize(reinterpret_cast<uintptr_t>(return_address) - 1);
  std::string places;
  for (size_t i = 1; i < lines.size(); i += 2) {
    const std::string place =
        WithoutFolder(lines[i].substr(0, lines[i].find(" (")));
    places += (i == 1 ? "" : " in ") + place;
  }
  return places;
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
