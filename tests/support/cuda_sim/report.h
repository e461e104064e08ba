// Findings, and where in the source they were made.
#pragma once

#include <string>

#include "cuda_sim/fiber_calls.h"
#include "tests/support/cuda_sim/cuda_sim.h"

namespace cuda_sim {

void AddReport(Finding finding, std::string text);
bool HasReports();

// "file.cu:12" of a place, or of the code before a return address.
std::string Text(Place place);
std::string PlaceOf(const void* return_address);
// A kernel's name by its address.
std::string FunctionName(const void* function);

}  // namespace cuda_sim
