#include "kernels/cpu/cpu_level.h"

#include "fmt/format.h"
#include "kernels/cpu/cpu_backend.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace sentencekv {
namespace {

#if defined(__x86_64__)

// Bits of XCR0: register state that the system saves on a context switch.
constexpr uint32_t kYmmState = 0x06;  // XMM, YMM
constexpr uint32_t kZmmState = 0xe6;  // and the masks and both parts of ZMM

uint32_t SavedState() {
  uint32_t low;
  uint32_t high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

bool AllSet(uint32_t value, uint32_t mask) { return (value & mask) == mask; }

// Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2,
// CPUID, leaves 1 and 7.
CpuLevel Detect() {
  uint32_t eax;
  uint32_t ebx;
  uint32_t ecx;
  uint32_t edx;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return CpuLevel::kPortable;
  constexpr uint32_t kFmaXsaveAvxF16c =
      1u << 12 | 1u << 27 | 1u << 28 | 1u << 29;
  if (!AllSet(ecx, kFmaXsaveAvxF16c)) return CpuLevel::kPortable;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) {
    return CpuLevel::kPortable;
  }
  const uint32_t saved = SavedState();
  constexpr uint32_t kAvx2Bit = 1u << 5;
  if (!AllSet(ebx, kAvx2Bit) || !AllSet(saved, kYmmState)) {
    return CpuLevel::kPortable;
  }
  constexpr uint32_t kFDqBwVl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
  constexpr uint32_t kVnni = 1u << 11;
  if (!AllSet(ebx, kFDqBwVl) || !AllSet(ecx, kVnni) ||
      !AllSet(saved, kZmmState)) {
    return CpuLevel::kAvx2;
  }
  return CpuLevel::kAvx512;
}

#else

CpuLevel Detect() { return CpuLevel::kPortable; }

#endif

}  // namespace

std::string_view Name(CpuLevel level) {
  switch (level) {
    case CpuLevel::kPortable:
      return "portable";
    case CpuLevel::kAvx2:
      return "avx2";
    case CpuLevel::kAvx512:
      return "avx512";
  }
  return "unknown";
}

CpuLevel DetectCpuLevel() {
  static const CpuLevel level = Detect();
  return level;
}

absl::StatusOr<CpuLevel> ParseCpuLevel(std::string_view name) {
  if (name.empty() || name == "auto") return DetectCpuLevel();
  for (const CpuLevel level :
       {CpuLevel::kPortable, CpuLevel::kAvx2, CpuLevel::kAvx512}) {
    if (name != Name(level)) continue;
    if (level > DetectCpuLevel()) {
      return absl::FailedPreconditionError(
          fmt::format("this machine does not have the CPU level {}; its "
                      "highest is {}",
                      name, Name(DetectCpuLevel())));
    }
    return level;
  }
  return absl::InvalidArgumentError(fmt::format(
      "CPU level must be auto, portable, avx2 or avx512, got '{}'", name));
}

}  // namespace sentencekv
