// What the daemon computes on: --backend.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace sentencekv {

struct ServerConfig;

enum class BackendKind {
  kAuto,  // CUDA where it can work, else the CPU
  kCpu,
  kCuda,
};

// "auto", "cpu", "cuda". kInvalidArgument for another name.
absl::StatusOr<BackendKind> ParseBackendKind(std::string_view name);

// Makes a backend, or says in kFailedPrecondition what this machine lacks.
using BackendMaker = std::function<absl::StatusOr<std::unique_ptr<Backend>>(
    const ServerConfig& config)>;

// The backend that config.backend asks for; logs why where it had the choice.
// An empty `make_cuda` stands for a program without the CUDA backend.
// kFailedPrecondition for "cuda" where it cannot work, with what is missing;
// otherwise as MakeCpuBackend.
absl::StatusOr<std::unique_ptr<Backend>> ChooseBackend(
    const ServerConfig& config, const BackendMaker& make_cuda);

}  // namespace sentencekv
