// Finding a device that we can use.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"

namespace sentencekv {

struct CudaDevice {
  std::string name;
  int major = 0;  // compute capability
  int minor = 0;
  int num_processors = 0;  // streaming multiprocessors
  size_t memory_bytes = 0;
  std::string pci_bus_id;  // "0000:3B:00.0"
  int driver_version = 0;  // 13000: CUDA 13.0
};

// The first device that CUDA_VISIBLE_DEVICES lets us see. kFailedPrecondition
// with what was found and what is needed: a driver, one that is new enough, a
// device, one of compute capability 8.0 or more.
absl::StatusOr<CudaDevice> FindCudaDevice();

}  // namespace sentencekv
