#include "tests/support/cuda_sim/program_image.h"

#include <link.h>

#include <algorithm>
#include <vector>

#include "tests/support/cuda_sim/shadow_memory.h"

namespace cuda_sim {

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

bool IsReadOnlyData(uintptr_t address) {
  static const std::vector<Interval> intervals = [] {
    std::vector<Interval> found;
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* result) {
          for (int i = 0; i < info->dlpi_phnum; ++i) {
            const auto& header = info->dlpi_phdr[i];
            if (header.p_type != PT_LOAD || (header.p_flags & PF_W) != 0) {
              continue;
            }
            const uintptr_t begin = info->dlpi_addr + header.p_vaddr;
            static_cast<std::vector<Interval>*>(result)->push_back(
                {begin, begin + header.p_memsz});
          }
          return 0;
        },
        &found);
    return found;
  }();
  return std::any_of(intervals.begin(), intervals.end(), [&](Interval i) {
    return address >= i.begin && address < i.end;
  });
}

}  // namespace cuda_sim
