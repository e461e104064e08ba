#include "server/backend_choice.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/quoted.h"
#include "kernels/status_macros.h"
#include "server/flag_values.h"
#include "server/logging.h"
#include "server/server_config.h"

namespace sentencekv {
namespace {

absl::StatusOr<std::unique_ptr<Backend>> MakeCpu(const ServerConfig& config) {
  SKV_ASSIGN_OR_RETURN(const CpuLevel level, ParseCpuLevel(config.cpu_level));
  CpuBackendOptions options = {.num_threads = config.threads, .level = level};
  if (config.cpu_discrete_memory_bytes > 0) {
    options.own_memory = CopyTiming::kThreads;
  }
  return MakeCpuBackend(options);
}

absl::StatusOr<std::unique_ptr<Backend>> MakeCuda(
    const ServerConfig& config, const BackendMaker& make_cuda) {
  if (make_cuda) return make_cuda(config);
  return absl::FailedPreconditionError(
      "this program was built without the CUDA backend");
}

}  // namespace

absl::StatusOr<BackendKind> ParseBackendKind(std::string_view name) {
  if (name == "auto") return BackendKind::kAuto;
  if (name == "cpu") return BackendKind::kCpu;
  if (name == "cuda") return BackendKind::kCuda;
  return absl::InvalidArgumentError(
      fmt::format("a backend is auto, cpu or cuda, not {}", Quoted(name)));
}

absl::StatusOr<std::unique_ptr<Backend>> ChooseBackend(
    const ServerConfig& config, const BackendMaker& make_cuda) {
  switch (config.backend) {
    case BackendKind::kCpu:
      return MakeCpu(config);
    case BackendKind::kCuda: {
      absl::StatusOr<std::unique_ptr<Backend>> cuda =
          MakeCuda(config, make_cuda);
      if (cuda.ok()) return cuda;
      return WithFlag("--backend=cuda", cuda.status());
    }
    case BackendKind::kAuto:
      break;
  }
  // Whoever wants the CPU to play a device wants the CPU.
  if (config.cpu_discrete_memory_bytes > 0) return MakeCpu(config);
  absl::StatusOr<std::unique_ptr<Backend>> cuda = MakeCuda(config, make_cuda);
  if (cuda.ok()) return cuda;
  LogEvent(spdlog::level::info, "computing on the CPU",
           {{"reason", std::string(cuda.status().message())}});
  return MakeCpu(config);
}

}  // namespace sentencekv
