// The program as it lies in memory.
#pragma once

#include <cstdint>

namespace cuda_sim {

// Where it was loaded: addr2line counts from there.
uintptr_t ProgramBase();

// Constants of the program: under nvcc they are constants in the code.
bool IsReadOnlyData(uintptr_t address);

}  // namespace cuda_sim
