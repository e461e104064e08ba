// Stands before the toolkit's header of this name when g++ compiles device code
// for the simulated device: the toolkit's types and host functions, our own
// launch, and the functions that nvcc knows without being told.
#pragma once

// The toolkit's launch takes a kernel's address for the driver; ours, below,
// keeps the arguments.
#define cudaLaunchKernelEx cuda_sim_hidden_launch
#include_next <cuda_runtime.h>
#undef cudaLaunchKernelEx

#undef __launch_bounds__
#define __launch_bounds__(...)
// Would become a variable of each thread, silently.
#undef __shared__
#define __shared__ _Pragma("GCC error \"use CU_SHARED or DynamicShared\"")

#include "cuda_sim/collectives.h"
#include "cuda_sim/launch.h"
#include "cuda_sim/thread_functions.h"
#include "cuda_sim/warp_matrices.h"
