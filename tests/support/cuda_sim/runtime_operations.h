// What is submitted to streams: launches, copies, fills, host functions; and
// what every operation on whole ranges of memory needs.
#pragma once

#include <cstddef>

#include "tests/support/cuda_sim/shadow_memory.h"

namespace cuda_sim {

Interval IntervalOf(const void* memory, size_t size);

// Whether all of the memory is still there when an operation needs it; a
// finding where it is not.
bool CheckWhole(const char* name, const void* memory, size_t size);

}  // namespace cuda_sim
