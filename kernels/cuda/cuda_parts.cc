#include "kernels/cuda/cuda_parts.h"

#include <string>
#include <utility>

#include "fmt/format.h"
#include "kernels/cuda/cublas_lt_table.h"
#include "kernels/cuda/numa_node.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// A device that has no memory for an idle backend is none to work with.
absl::Status AsPrecondition(const absl::Status& status) {
  if (!absl::IsResourceExhausted(status)) return status;
  return absl::FailedPreconditionError(
      fmt::format("the CUDA backend needs more memory before it has done "
                  "anything: {}",
                  std::string(status.message())));
}

absl::StatusOr<CudaParts> MakeParts(const CudaBackendOptions& options) {
  CudaParts parts;
  SKV_ASSIGN_OR_RETURN(parts.device, FindCudaDevice());
  CublasLtTable table;
  if (options.cublas_lt != nullptr) {
    table = *options.cublas_lt;
  } else {
    SKV_ASSIGN_OR_RETURN(table, LoadCublasLt());
  }
  SKV_ASSIGN_OR_RETURN(parts.streams, CudaStreams::Create());
  SKV_ASSIGN_OR_RETURN(
      parts.arena,
      DeviceArena::Create(*parts.streams,
                          {.size_bytes = options.device_memory_bytes,
                           .mark_block = options.mark_block}));
  parts.pinned = std::make_unique<PinnedPool>(
      PinnedPoolOptions{.numa_node = NumaNodeOf(parts.device.pci_bus_id),
                        .piece_bytes = options.pinned_piece_bytes});
  SKV_ASSIGN_OR_RETURN(
      parts.ring, StagingRing::Create(*parts.streams, *parts.arena,
                                      *parts.pinned, options.staging_bytes));
  parts.graphs = std::make_unique<StepGraphs>(*parts.streams, *parts.ring,
                                              *parts.arena, options.has_graphs);
  SKV_ASSIGN_OR_RETURN(
      parts.products,
      MatrixProducts::Create(table, *parts.streams, *parts.graphs, *parts.arena,
                             options.product_bytes));
  SKV_ASSIGN_OR_RETURN(
      parts.attention_states,
      DeviceMemory::Allocate(*parts.arena, options.attention_bytes,
                             MemoryUse::kWorkspace));
  return parts;
}

}  // namespace

absl::StatusOr<CudaParts> MakeCudaParts(const CudaBackendOptions& options) {
  absl::StatusOr<CudaParts> parts = MakeParts(options);
  if (!parts.ok()) return AsPrecondition(parts.status());
  return parts;
}

}  // namespace sentencekv
