// Where launches leave their kernel and its arguments.
#pragma once

#include <driver_types.h>

#include <cstddef>

namespace cuda_sim {

// Calls the kernel with its arguments, once for each thread.
using ThreadFunction = void (*)(const void* call);

// Submits a launch; takes `call`, which came from malloc.
cudaError_t SubmitLaunch(const cudaLaunchConfig_t& config, const void* kernel,
                         ThreadFunction run_thread, void* call);

}  // namespace cuda_sim
