// What all functions of the simulated runtime share: one lock, the calls that
// are to fail, the seed.
#pragma once

#include <driver_types.h>

#include <mutex>
#include <utility>

#include "tests/support/cuda_sim/random.h"

namespace cuda_sim {

// Held by every call of the runtime; a drain runs all it runs under it.
std::recursive_mutex& RuntimeLock();
Random& RuntimeRandom();

// Counts a call, and says whether it is one that should fail.
cudaError_t CountCall(const char* name);
// The error of an earlier finding, which spoils everything after it.
cudaError_t SpoiledBy();
void SetLastError(cudaError_t error);

// The body of a runtime function.
template <typename Body>
cudaError_t RuntimeCall(const char* name, Body body) {
  const std::lock_guard<std::recursive_mutex> lock(RuntimeLock());
  cudaError_t error = CountCall(name);
  if (error == cudaSuccess) error = SpoiledBy();
  if (error == cudaSuccess) error = std::move(body)();
  if (error != cudaSuccess && error != cudaErrorNotReady) SetLastError(error);
  return error;
}
// One that gives something back: it works whatever has happened.
template <typename Body>
cudaError_t ReleasingCall(const char* name, Body body) {
  const std::lock_guard<std::recursive_mutex> lock(RuntimeLock());
  const cudaError_t error = CountCall(name);
  const cudaError_t result = std::move(body)();
  return error != cudaSuccess ? error : result;
}

// Reports kRuntimeMisuse; the error that the call gives.
cudaError_t Misused(const char* what);

}  // namespace cuda_sim
