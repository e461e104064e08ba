#include <numeric>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/cuda/backend_under_test.h"
#include "tests/cuda/simulated_cublas_lt.h"
#include "tests/support/cuda_sim/cuda_sim.h"
#include "tests/support/cuda_sim/nothing_left.h"

namespace sentencekv {

std::vector<uint64_t> DeviceSeeds() {
  std::vector<uint64_t> seeds(20);
  std::iota(seeds.begin(), seeds.end(), 1);
  return seeds;
}

void CudaBackendTest::SetUp() {
  cuda_sim::Reset({.seed = GetParam()});
  const CublasLtTable table = SimulatedCublasLt();
  auto backend = MakeCudaBackend({.cublas_lt = &table,
                                  .device_memory_bytes = size_t{32} << 20,
                                  .mark_block = &cuda_sim::MarkBlock,
                                  .staging_bytes = staging_bytes_,
                                  .attention_bytes = size_t{1} << 20,
                                  .product_bytes = 4096});
  ASSERT_TRUE(backend.ok()) << backend.status();
  backend_ = *std::move(backend);
  cpu_ =
      MakeCpuBackend({.num_threads = 1, .level = CpuLevel::kPortable}).value();
}

void CudaBackendTest::TearDown() {
  backend_.reset();
  cuda_sim::ExpectNothingLeft();
}

}  // namespace sentencekv
