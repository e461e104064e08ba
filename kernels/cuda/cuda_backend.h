// The CUDA backend: one device with memory of its own. docs/cuda.md.
#pragma once

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cuda/device_arena.h"
#include "kernels/cuda/pinned_pool.h"

namespace sentencekv {

struct CublasLtTable;

struct CudaBackendOptions {
  // Null: the system's cuBLASLt.
  const CublasLtTable* cublas_lt = nullptr;
  // Device memory for everything, taken when the backend is made; 0: what is
  // free then, less what the driver will need. Memory of the sizes below is
  // part of it.
  size_t device_memory_bytes = 0;
  // Is told of every block of device memory; null: nobody is.
  MarkBlock mark_block = nullptr;
  // Host memory is locked in pieces of this size, a multiple of 2 MiB.
  size_t pinned_piece_bytes = PinnedPoolOptions().piece_bytes;
  // Host arrays that an operation may have without waiting for memory; four
  // times as much is taken of both memories.
  size_t staging_bytes = size_t{4} << 20;
  // For the parts that the attention of long sequences is cut into.
  size_t attention_bytes = size_t{64} << 20;
  // Steps that can be are one CUDA graph.
  bool has_graphs = true;
  // For cuBLASLt's kernels: as much as NVIDIA advises for Hopper.
  size_t product_bytes = size_t{32} << 20;
};

// kFailedPrecondition with what was found and what is needed: no driver or one
// too old, no device or one too old, no cuBLAS, not even memory for a backend
// that has done nothing yet.
absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(
    const CudaBackendOptions& options);

}  // namespace sentencekv
