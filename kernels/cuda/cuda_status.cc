#include "kernels/cuda/cuda_status.h"

#include "fmt/format.h"

namespace sentencekv {

namespace {

// Errors after which nothing on the device can be used any more: "the process
// must be terminated and relaunched" (CUDA runtime API, cudaError).
bool IsDeviceLost(cudaError_t error) {
  switch (error) {
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
      return true;
    default:
      return false;
  }
}

}  // namespace

absl::Status CudaStatus(cudaError_t error, std::string_view call) {
  if (error == cudaSuccess) [[likely]] {
    return absl::OkStatus();
  }
  (void)cudaGetLastError();
  const std::string message =
      fmt::format("{}: {}: {}", call.substr(0, call.find('(')),
                  cudaGetErrorName(error), cudaGetErrorString(error));
  if (IsDeviceLost(error)) {
    return absl::DataLossError(fmt::format("the device is lost: {}", message));
  }
  return error == cudaErrorMemoryAllocation
             ? absl::ResourceExhaustedError(message)
             : absl::InternalError(message);
}

}  // namespace sentencekv
