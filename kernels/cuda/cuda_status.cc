#include "kernels/cuda/cuda_status.h"

#include "fmt/format.h"

namespace sentencekv {

absl::Status CudaStatus(cudaError_t error, std::string_view call) {
  if (error == cudaSuccess) [[likely]] {
    return absl::OkStatus();
  }
  (void)cudaGetLastError();
  const std::string message =
      fmt::format("{}: {}: {}", call.substr(0, call.find('(')),
                  cudaGetErrorName(error), cudaGetErrorString(error));
  return error == cudaErrorMemoryAllocation
             ? absl::ResourceExhaustedError(message)
             : absl::InternalError(message);
}

}  // namespace sentencekv
