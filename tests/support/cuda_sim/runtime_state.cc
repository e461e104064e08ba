#include "tests/support/cuda_sim/runtime_state.h"

#include <cuda_runtime_api.h>

#include <map>
#include <string>

#include "tests/support/cuda_sim/report.h"
#include "tests/support/cuda_sim/runtime_graph.h"
#include "tests/support/cuda_sim/runtime_memory.h"
#include "tests/support/cuda_sim/runtime_stream.h"

namespace cuda_sim {
namespace {

struct PlannedFailure {
  int64_t calls_left;
  cudaError_t error;
};

struct State {
  std::recursive_mutex lock;
  Random random{1};
  std::map<std::string, int64_t, std::less<>> calls;
  std::map<std::string, PlannedFailure, std::less<>> failures;
};

State& S() {
  static State state;
  return state;
}

thread_local cudaError_t last_error = cudaSuccess;

// Whether this call of `name` is the planned one.
cudaError_t CountDown(const std::string& name) {
  const auto planned = S().failures.find(name);
  if (planned == S().failures.end()) return cudaSuccess;
  if (--planned->second.calls_left > 0) return cudaSuccess;
  const cudaError_t error = planned->second.error;
  S().failures.erase(planned);
  return error;
}

}  // namespace

std::recursive_mutex& RuntimeLock() { return S().lock; }
Random& RuntimeRandom() { return S().random; }

cudaError_t CountCall(const char* name) {
  CloseAfterHostTouch();
  ++S().calls[name];
  ++S().calls[""];
  const cudaError_t of_name = CountDown(name);
  const cudaError_t of_any = CountDown("");
  return of_name != cudaSuccess ? of_name : of_any;
}

cudaError_t SpoiledBy() {
  return HasReports() ? cudaErrorLaunchFailure : cudaSuccess;
}

void SetLastError(cudaError_t error) { last_error = error; }

cudaError_t Misused(const char* what) {
  AddReport(Finding::kRuntimeMisuse, what);
  return cudaErrorInvalidValue;
}

void Reset(const Options& options) {
  const std::lock_guard<std::recursive_mutex> lock(RuntimeLock());
  S().random = Random(options.seed);
  S().calls.clear();
  S().failures.clear();
  last_error = cudaSuccess;
  TakeReports();
  ResetGraphs();
  ResetStreams();
  ResetMemory(options.device_bytes);
}

void FailCall(std::string_view function, int64_t n, cudaError_t error) {
  const std::lock_guard<std::recursive_mutex> lock(RuntimeLock());
  S().failures[std::string(function)] = {n, error};
}

int64_t CallsOf(std::string_view function) {
  const std::lock_guard<std::recursive_mutex> lock(RuntimeLock());
  const auto found = S().calls.find(function);
  return found == S().calls.end() ? 0 : found->second;
}

LiveObjects CountLiveObjects() {
  const std::lock_guard<std::recursive_mutex> lock(RuntimeLock());
  LiveObjects live;
  live.device_bytes = LiveDeviceBytes();
  live.pinned_bytes = LivePinnedBytes();
  live.streams = LiveStreams();
  live.events = LiveEvents();
  live.graphs = LiveGraphs();
  return live;
}

}  // namespace cuda_sim

extern "C" {

cudaError_t cudaGetLastError() {
  return std::exchange(cuda_sim::last_error, cudaSuccess);
}

cudaError_t cudaPeekAtLastError() { return cuda_sim::last_error; }

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorLaunchFailure:
      return "unspecified launch failure";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorHostMemoryAlreadyRegistered:
      return "part or all of the requested memory range is already mapped";
    case cudaErrorHostMemoryNotRegistered:
      return "pointer does not correspond to a registered memory region";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    default:
      return "simulated error";
  }
}

const char* cudaGetErrorName(cudaError_t error) {
  return cudaGetErrorString(error);
}

}  // extern "C"
