// The simulated device as the runtime describes it: one, like an H100.
#include <cuda_runtime_api.h>

#include <cstring>

#include "tests/support/cuda_sim/runtime_memory.h"
#include "tests/support/cuda_sim/runtime_state.h"
#include "tests/support/cuda_sim/shared_memory.h"

using cuda_sim::RuntimeCall;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  return RuntimeCall(__func__, [&] {
    *count = 1;
    return cudaSuccess;
  });
}

cudaError_t cudaSetDevice(int device) {
  return RuntimeCall(__func__, [&] {
    return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
  });
}

cudaError_t cudaGetDevice(int* device) {
  return RuntimeCall(__func__, [&] {
    *device = 0;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  return RuntimeCall(__func__, [&] {
    if (device != 0) return cudaErrorInvalidDevice;
    *properties = cudaDeviceProp();
    std::strcpy(properties->name, "simulated device");
    properties->totalGlobalMem = cuda_sim::DeviceBytes();
    properties->major = 9;
    properties->minor = 0;
    properties->multiProcessorCount = 4;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = 1024;
    properties->sharedMemPerBlock = 48 * 1024;
    properties->sharedMemPerBlockOptin = cuda_sim::SharedMemory::kMaxBytes;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int size, int device) {
  return RuntimeCall(__func__, [&] {
    if (device != 0) return cudaErrorInvalidDevice;
    constexpr char kId[] = "0000:00:00.0";
    if (size < static_cast<int>(sizeof(kId))) return cudaErrorInvalidValue;
    std::strcpy(id, kId);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute,
                                   int device) {
  return RuntimeCall(__func__, [&] {
    if (device != 0) return cudaErrorInvalidDevice;
    switch (attribute) {
      case cudaDevAttrComputeCapabilityMajor:
        *value = 9;
        return cudaSuccess;
      case cudaDevAttrComputeCapabilityMinor:
        *value = 0;
        return cudaSuccess;
      case cudaDevAttrMultiProcessorCount:
        *value = 4;
        return cudaSuccess;
      case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = 48 * 1024;
        return cudaSuccess;
      case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = static_cast<int>(cuda_sim::SharedMemory::kMaxBytes);
        return cudaSuccess;
      default:
        return cuda_sim::Misused("an attribute that the simulation lacks");
    }
  });
}

cudaError_t cudaDriverGetVersion(int* version) {
  return RuntimeCall(__func__, [&] {
    *version = CUDART_VERSION;
    return cudaSuccess;
  });
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  return RuntimeCall(__func__, [&] {
    *version = CUDART_VERSION;
    return cudaSuccess;
  });
}

}  // extern "C"
