#include "kernels/cuda/cuda_device.h"

#include <cuda_runtime_api.h>

#include "fmt/format.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

constexpr int kLeastMajor = 8;  // Ampere: bf16 in the tensor cores

std::string VersionName(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

template <typename... Args>
absl::Status Missing(fmt::format_string<Args...> format, Args&&... args) {
  return absl::FailedPreconditionError(
      "the CUDA backend needs " +
      fmt::format(format, std::forward<Args>(args)...));
}

// Why the runtime found no device.
absl::Status NoDevice(cudaError_t error, int driver_version) {
  if (driver_version == 0) {
    return Missing("an NVIDIA driver of CUDA {} or newer; found none",
                   VersionName(CUDART_VERSION));
  }
  if (error == cudaErrorInsufficientDriver) {
    return Missing("an NVIDIA driver of CUDA {} or newer; found one of CUDA {}",
                   VersionName(CUDART_VERSION), VersionName(driver_version));
  }
  if (error == cudaErrorNoDevice || error == cudaSuccess) {
    return Missing(
        "an NVIDIA GPU; the driver, of CUDA {}, found none "
        "(CUDA_VISIBLE_DEVICES may hide it)",
        VersionName(driver_version));
  }
  return Missing("a working NVIDIA GPU; cudaGetDeviceCount: {}: {}",
                 cudaGetErrorName(error), cudaGetErrorString(error));
}

}  // namespace

absl::StatusOr<CudaDevice> FindCudaDevice() {
  CudaDevice device;
  SKV_RETURN_IF_CUDA_ERROR(cudaDriverGetVersion(&device.driver_version));
  int num_devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&num_devices);
  if (error != cudaSuccess || num_devices == 0) {
    (void)cudaGetLastError();
    return NoDevice(error, device.driver_version);
  }
  cudaDeviceProp properties;
  SKV_RETURN_IF_CUDA_ERROR(cudaGetDeviceProperties(&properties, 0));
  char pci_bus_id[32] = {};
  SKV_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetPCIBusId(pci_bus_id, sizeof(pci_bus_id), 0));
  device.pci_bus_id = pci_bus_id;
  device.name = properties.name;
  device.major = properties.major;
  device.minor = properties.minor;
  device.num_processors = properties.multiProcessorCount;
  device.memory_bytes = properties.totalGlobalMem;
  if (device.major < kLeastMajor) {
    return Missing("a GPU of compute capability {}.0 or more; {} has {}.{}",
                   kLeastMajor, device.name, device.major, device.minor);
  }
  return device;
}

}  // namespace sentencekv
