// A CUDA backend on the simulated device, with so little memory that what tests
// ask for does not fit at once.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <memory>
#include <utility>

#include "kernels/cuda/cuda_backend.h"
#include "tests/cuda/simulated_cublas_lt.h"
#include "tests/support/cuda_sim/cuda_sim.h"

namespace sentencekv {

inline std::unique_ptr<Backend> MakeSmallBackend(size_t staging_bytes,
                                                 size_t attention_bytes,
                                                 bool has_graphs = true) {
  const CublasLtTable table = SimulatedCublasLt();
  auto backend = MakeCudaBackend({.cublas_lt = &table,
                                  .device_memory_bytes = size_t{16} << 20,
                                  .mark_block = &cuda_sim::MarkBlock,
                                  .staging_bytes = staging_bytes,
                                  .attention_bytes = attention_bytes,
                                  .has_graphs = has_graphs,
                                  .product_bytes = 4096});
  EXPECT_TRUE(backend.ok()) << backend.status();
  return *std::move(backend);
}

}  // namespace sentencekv
