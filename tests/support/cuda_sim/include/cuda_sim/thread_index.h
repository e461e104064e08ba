// Where a thread stands in its block and grid, for device code.
#pragma once

#include <vector_types.h>

// Which thread runs: written by the executor when it changes threads, never
// while one runs, hence const for the code of a thread.
extern const uint3 threadIdx;
extern const uint3 blockIdx;
// uint3, not dim3 as on a GPU: reading a type with constructors would be seen
// as an access to memory.
extern const uint3 blockDim;
extern const uint3 gridDim;
inline constexpr int warpSize = 32;
