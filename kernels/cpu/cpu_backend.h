// The CPU backend: embedded default, and the oracle of the CUDA one.
#pragma once

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace sentencekv {

// Instruction sets that the kernels are written for, in rising order.
enum class CpuLevel : uint8_t {
  kPortable,  // plain C++, any machine
  kAvx2,      // AVX2 + FMA + F16C
  kAvx512,    // AVX-512 F/BW/VL/DQ + VNNI
};

std::string_view Name(CpuLevel level);
// "portable", "avx2", "avx512"; "auto" and "" give DetectCpuLevel().
// kInvalidArgument for another name, kFailedPrecondition for a level this
// machine does not have.
absl::StatusOr<CpuLevel> ParseCpuLevel(std::string_view name);
// The highest level this machine has.
CpuLevel DetectCpuLevel();

struct CpuBackendOptions {
  int num_threads = 0;  // 0: one per core this process may use
  CpuLevel level = DetectCpuLevel();
};

// kInvalidArgument when num_threads is not in 0..1024; kFailedPrecondition for
// a level this machine does not have.
absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(
    const CpuBackendOptions& options);

}  // namespace sentencekv
