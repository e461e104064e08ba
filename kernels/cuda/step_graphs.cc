#include "kernels/cuda/step_graphs.h"

#include <algorithm>
#include <bit>

#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// Of a small step; more is taken when it is wanted.
constexpr size_t kLeastArgumentBytes = size_t{16} << 10;

}  // namespace

StepGraphs::~StepGraphs() {
  for (const auto& [rows, graph] : graphs_) {
    if (graph.executable != nullptr) {
      (void)cudaGraphExecDestroy(graph.executable);
    }
  }
  if (captured_event_ != nullptr) (void)cudaEventDestroy(captured_event_);
}

absl::Status StepGraphs::Run(const StepSize& size,
                             absl::FunctionRef<absl::Status()> issue) {
  if (!has_graphs_) return issue();
  num_rows_ = size.num_rows;
  graph_rows_ = std::min(
      static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(num_rows_))),
      size.most_rows);
  SKV_RETURN_IF_ERROR(List(issue));
  StepGraph& graph = graphs_[graph_rows_];
  const bool is_known = graph.executable != nullptr && graph.calls == calls_;
  if (!is_known) SKV_RETURN_IF_ERROR(Capture(issue, &graph));
  SKV_RETURN_IF_ERROR(ring_.CopyFromHost(arguments_there_, arguments_.data(),
                                         arguments_.size()));
  SKV_RETURN_IF_CUDA_ERROR(
      cudaGraphLaunch(graph.executable, streams_.compute()));
  ++(is_known ? counts_.repeated : counts_.recorded);
  return absl::OkStatus();
}

absl::Status StepGraphs::Issue(Pass pass,
                               absl::FunctionRef<absl::Status()> issue) {
  pass_ = pass;
  arguments_.clear();
  has_branch_ = false;
  const absl::Status issued = issue();
  pass_ = Pass::kNone;
  return issued;
}

absl::Status StepGraphs::List(absl::FunctionRef<absl::Status()> issue) {
  do {
    argument_bytes_ = std::max({argument_bytes_, kLeastArgumentBytes,
                                std::bit_ceil(arguments_.size())});
    SKV_ASSIGN_OR_RETURN(arguments_there_,
                         argument_memory_.AtLeast(argument_bytes_));
    calls_.clear();
    SKV_RETURN_IF_ERROR(Issue(Pass::kListing, issue));
    // Arrays that found no room are listed where there is none.
  } while (arguments_.size() > argument_bytes_);
  return absl::OkStatus();
}

absl::Status StepGraphs::Capture(absl::FunctionRef<absl::Status()> issue,
                                 StepGraph* graph) {
  // One that still runs is freed when it is done.
  if (graph->executable != nullptr) {
    const cudaGraphExec_t stale = std::exchange(graph->executable, nullptr);
    SKV_RETURN_IF_CUDA_ERROR(cudaGraphExecDestroy(stale));
  }
  SKV_ASSIGN_OR_RETURN(const cudaGraph_t captured, CaptureCalls(issue));
  const cudaError_t instantiated =
      cudaGraphInstantiate(&graph->executable, captured, 0);
  (void)cudaGraphDestroy(captured);
  if (instantiated != cudaSuccess) graph->executable = nullptr;
  SKV_RETURN_IF_ERROR(CudaStatus(instantiated, "cudaGraphInstantiate"));
  graph->calls = calls_;
  return absl::OkStatus();
}

absl::StatusOr<cudaGraph_t> StepGraphs::CaptureCalls(
    absl::FunctionRef<absl::Status()> issue) {
  if (captured_event_ == nullptr) {
    SKV_RETURN_IF_CUDA_ERROR(
        cudaEventCreateWithFlags(&captured_event_, cudaEventDisableTiming));
  }
  // Relaxed: the driver may have to load the code of a kernel meanwhile.
  SKV_RETURN_IF_CUDA_ERROR(
      cudaStreamBeginCapture(streams_.compute(), cudaStreamCaptureModeRelaxed));
  const absl::Status issued = Issue(Pass::kCapturing, issue);
  // Every stream that takes part has to be joined, or the end is an error.
  if (has_branch_) {
    (void)OrderCaptured(DeviceStream::kToDevice, DeviceStream::kCompute);
  }
  cudaGraph_t captured = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(streams_.compute(), &captured);
  if (issued.ok() && ended == cudaSuccess) return captured;
  if (captured != nullptr) (void)cudaGraphDestroy(captured);
  return issued.ok() ? CudaStatus(ended, "cudaStreamEndCapture") : issued;
}

absl::StatusOr<StagedArrays> StepGraphs::Reserve(size_t size_bytes) {
  if (!is_recording()) return ring_.Reserve(size_bytes);
  const size_t begin = arguments_.size();
  arguments_.resize(begin + StagedArrays::AlignedBytes(size_bytes));
  return StagedArrays(arguments_.data() + begin, arguments_there_ + begin,
                      size_bytes);
}

absl::Status StepGraphs::Send(const StagedArrays& arrays) {
  return is_recording() ? absl::OkStatus() : ring_.Send(arrays);
}

absl::Status StepGraphs::Submit(const StepCall& call,
                                absl::FunctionRef<absl::Status()> submit) {
  if (pass_ != Pass::kListing) return submit();
  calls_.push_back(call);
  return absl::OkStatus();
}

absl::Status StepGraphs::FillWithZeros(std::byte* to, size_t size_bytes) {
  return Submit(FillCall{to, size_bytes}, [&] {
    return CudaStatus(cudaMemsetAsync(to, 0, size_bytes, streams_.compute()),
                      "cudaMemsetAsync");
  });
}

absl::Status StepGraphs::CopyToHost(std::byte* pinned, const std::byte* from,
                                    size_t size_bytes) {
  return Submit(CopyToHostCall{pinned, from, size_bytes}, [&] {
    return CudaStatus(
        cudaMemcpyAsync(pinned, from, size_bytes, cudaMemcpyDeviceToHost,
                        streams_.compute()),
        "cudaMemcpyAsync");
  });
}

absl::Status StepGraphs::Order(DeviceStream first, DeviceStream second) {
  return Submit(OrderCall{first, second}, [&]() -> absl::Status {
    if (is_recording()) return OrderCaptured(first, second);
    SKV_ASSIGN_OR_RETURN(const DeviceEvent done, streams_.Record(first));
    return streams_.Wait(second, done);
  });
}

// A captured wait remembers what it waits for: one event does for all.
absl::Status StepGraphs::OrderCaptured(DeviceStream first,
                                       DeviceStream second) {
  SKV_RETURN_IF_CUDA_ERROR(
      cudaEventRecord(captured_event_, streams_.handle(first)));
  SKV_RETURN_IF_CUDA_ERROR(
      cudaStreamWaitEvent(streams_.handle(second), captured_event_, 0));
  has_branch_ = second != DeviceStream::kCompute;
  return absl::OkStatus();
}

void StepGraphs::AwaitSubmitted() {
  if (!is_recording()) (void)streams_.AwaitAll();
}

}  // namespace sentencekv
