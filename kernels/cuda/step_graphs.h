// The way of operations to the device, where they may be part of a step that is
// one CUDA graph: docs/cuda.md.
//
// Outside of Run everything is submitted at once. Run goes through the step
// twice, where it is new: first everything is listed and nothing submitted,
// while workspaces grow to what they need, and host arrays get places in one
// block of device memory. If the list equals that of the graph for so many
// rows, the block is sent and the graph launched. If not, the step is issued
// once more and captured: everything finds the same memory, so the graph is
// what the list says.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/cuda_streams.h"
#include "kernels/cuda/staging_ring.h"
#include "kernels/cuda/step_calls.h"
#include "kernels/cuda/workspace.h"

namespace sentencekv {

// One thread.
class StepGraphs {
 public:
  // Without graphs Run issues the step as if there were none.
  StepGraphs(CudaStreams& streams, StagingRing& ring, DeviceArena& arena,
             bool has_graphs)
      : streams_(streams),
        ring_(ring),
        has_graphs_(has_graphs),
        argument_memory_(arena) {}
  // REQUIRES: streams that take no more work, or a wait for all.
  ~StepGraphs();
  StepGraphs(const StepGraphs&) = delete;
  StepGraphs& operator=(const StepGraphs&) = delete;

  // As Backend::RunStep. Steps of 1, 2, 3 to 4, 5 to 8 ... rows share a graph.
  absl::Status Run(const StepSize& size,
                   absl::FunctionRef<absl::Status()> issue);
  const StepCounts& counts() const { return counts_; }

  // What follows is for operations. Those on the rows of a step are submitted
  // for as many rows as its graph has; what the host has to say of the others
  // does nothing.
  int64_t Rows(int64_t num_rows) const {
    return pass_ != Pass::kNone && num_rows == num_rows_ ? graph_rows_
                                                         : num_rows;
  }
  bool is_recording() const { return pass_ != Pass::kNone; }

  // StagingRing's, for the operation that comes next.
  absl::StatusOr<StagedArrays> Reserve(size_t size_bytes);
  absl::Status Send(const StagedArrays& arrays);
  // A host array for all of the step, where kernels find it: in `home`, which
  // has room for it, unless there is a better place.
  template <typename T>
  absl::StatusOr<T*> SendForStep(std::span<const T> values, std::byte* home);

  // `name` is for the status.
  template <typename Params>
  absl::Status Launch(const char* name,
                      cudaError_t (*launch)(const Params&, cudaStream_t),
                      const std::type_identity_t<Params>& params,
                      DeviceStream stream = DeviceStream::kCompute);
  // `submit` submits the call to the compute stream.
  absl::Status Submit(const StepCall& call,
                      absl::FunctionRef<absl::Status()> submit);
  absl::Status FillWithZeros(std::byte* to, size_t size_bytes);
  absl::Status CopyToHost(std::byte* pinned, const std::byte* from,
                          size_t size_bytes);
  // What `second` is given from now on begins when what `first` was given is
  // done.
  absl::Status Order(DeviceStream first, DeviceStream second);
  // After an error: waits for what has been submitted, which nothing of a graph
  // has.
  void AwaitSubmitted();

 private:
  // How a step is gone through.
  enum class Pass : uint8_t { kNone, kListing, kCapturing };
  struct StepGraph {
    cudaGraphExec_t executable = nullptr;
    std::vector<StepCall> calls;  // that it was captured from
  };

  absl::Status Issue(Pass pass, absl::FunctionRef<absl::Status()> issue);
  // Makes calls_ and arguments_.
  absl::Status List(absl::FunctionRef<absl::Status()> issue);
  absl::Status Capture(absl::FunctionRef<absl::Status()> issue,
                       StepGraph* graph);
  absl::StatusOr<cudaGraph_t> CaptureCalls(
      absl::FunctionRef<absl::Status()> issue);
  absl::Status OrderCaptured(DeviceStream first, DeviceStream second);

  CudaStreams& streams_;
  StagingRing& ring_;
  const bool has_graphs_;
  std::map<int64_t, StepGraph> graphs_;  // by rows
  StepCounts counts_;
  // Where graphs find host arrays.
  Workspace argument_memory_;
  size_t argument_bytes_ = 0;  // of it
  // Of a stream that is captured; always the last.
  cudaEvent_t captured_event_ = nullptr;

  // Of the step.
  Pass pass_ = Pass::kNone;
  int64_t num_rows_ = 0;
  int64_t graph_rows_ = 0;
  std::vector<StepCall> calls_;
  std::vector<std::byte> arguments_;      // host arrays of all operations
  std::byte* arguments_there_ = nullptr;  // in argument_memory_
  bool has_branch_ = false;  // a captured stream that is not joined
};

template <typename T>
absl::StatusOr<T*> StepGraphs::SendForStep(std::span<const T> values,
                                           std::byte* home) {
  if (!is_recording()) {
    const absl::Status sent = ring_.CopyFromHost(
        home, reinterpret_cast<const std::byte*>(values.data()),
        values.size_bytes());
    if (!sent.ok()) return sent;
    return reinterpret_cast<T*>(home);
  }
  auto arrays = Reserve(StagedArrays::Bytes<T>(std::ssize(values)));
  if (!arrays.ok()) return arrays.status();
  const auto there = arrays->template Add<T>(std::ssize(values));
  std::copy(values.begin(), values.end(), there.host);
  return there.device;
}

template <typename Params>
absl::Status StepGraphs::Launch(
    const char* name, cudaError_t (*launch)(const Params&, cudaStream_t),
    const std::type_identity_t<Params>& params, DeviceStream stream) {
  return Submit(KernelCall<Params>{launch, params, stream}, [&] {
    return CudaStatus(launch(params, streams_.handle(stream)), name);
  });
}

}  // namespace sentencekv
