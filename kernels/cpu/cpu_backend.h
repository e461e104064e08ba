// The CPU backend: embedded default, and the oracle of the CUDA one.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cpu/copy_streams.h"
#include "kernels/cpu/cpu_level.h"

namespace sentencekv {

// "portable", "avx2", "avx512"; "auto" and "" give DetectCpuLevel().
// kInvalidArgument for another name, kFailedPrecondition for a level this
// machine does not have.
absl::StatusOr<CpuLevel> ParseCpuLevel(std::string_view name);

struct CpuBackendOptions {
  int num_threads = 0;  // 0: one per core this process may use
  CpuLevel level = DetectCpuLevel();
  // Plays a device with memory of its own, whose copies run at these times.
  std::optional<CopyTiming> own_memory;
};

// kInvalidArgument when num_threads is not in 0..1024; kFailedPrecondition for
// a level this machine does not have.
absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(
    const CpuBackendOptions& options);

}  // namespace sentencekv
