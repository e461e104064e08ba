// What a backend is made of, and in which order.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_streams.h"
#include "kernels/cuda/device_arena.h"
#include "kernels/cuda/matrix_products.h"
#include "kernels/cuda/pinned_pool.h"
#include "kernels/cuda/staging_ring.h"
#include "kernels/cuda/step_graphs.h"

namespace sentencekv {

// What a backend works with; each part uses those before it.
struct CudaParts {
  CudaDevice device;
  std::unique_ptr<CudaStreams> streams;
  std::unique_ptr<DeviceArena> arena;
  std::unique_ptr<PinnedPool> pinned;
  std::unique_ptr<StagingRing> ring;
  std::unique_ptr<StepGraphs> graphs;
  std::unique_ptr<MatrixProducts> products;
  DeviceMemory attention_states;
};

// The errors of MakeCudaBackend.
absl::StatusOr<CudaParts> MakeCudaParts(const CudaBackendOptions& options);

}  // namespace sentencekv
