// Return codes of the CUDA runtime as absl::Status.
#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

#include "absl/status/status.h"

namespace sentencekv {

// OK, or the name of the function called, the error's name and what it means:
// kResourceExhausted when memory ran out, kInternal for all others. `call` may
// be the whole expression; what stands before its first parenthesis is named.
// Clears the thread's last error, so that no later call is blamed for it.
absl::Status CudaStatus(cudaError_t error, std::string_view call);

}  // namespace sentencekv

// Returns from the calling function when the runtime's answer is an error.
#define SKV_RETURN_IF_CUDA_ERROR(call) \
  SKV_RETURN_IF_ERROR(::sentencekv::CudaStatus(call, #call))
