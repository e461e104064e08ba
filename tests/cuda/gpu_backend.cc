#include <cstdlib>
#include <string_view>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/cuda/backend_under_test.h"

namespace sentencekv {

std::vector<uint64_t> DeviceSeeds() { return {1}; }

void CudaBackendTest::SetUp() {
  auto backend = MakeCudaBackend({.device_memory_bytes = size_t{1} << 30,
                                  .staging_bytes = staging_bytes_});
  if (!backend.ok()) {
    const char* required = std::getenv("SENTENCEKV_REQUIRE_CUDA");
    if (required != nullptr && std::string_view(required) == "1") {
      FAIL() << backend.status();
    }
    GTEST_SKIP() << backend.status();
  }
  backend_ = *std::move(backend);
  cpu_ =
      MakeCpuBackend({.num_threads = 1, .level = CpuLevel::kPortable}).value();
}

void CudaBackendTest::TearDown() { backend_.reset(); }

}  // namespace sentencekv
