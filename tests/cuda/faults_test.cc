// The CUDA backend when calls of the runtime and of cuBLASLt fail: every one
// gives a status, and nothing is lost. Simulated device only.
#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/status_macros.h"
#include "tests/cuda/copies_program.h"
#include "tests/cuda/simulated_cublas_lt.h"
#include "tests/support/cuda_sim/cuda_sim.h"
#include "tests/support/cuda_sim/nothing_left.h"
#include "tests/support/random_matrix.h"

namespace sentencekv {
namespace {

absl::StatusOr<std::unique_ptr<Backend>> MakeBackend() {
  const CublasLtTable table = SimulatedCublasLt();
  return MakeCudaBackend({.cublas_lt = &table,
                          .device_memory_bytes = size_t{1} << 20,
                          .mark_block = &cuda_sim::MarkBlock,
                          .staging_bytes = 256,
                          .attention_bytes = size_t{64} << 10,
                          .product_bytes = 4096});
}

// A bit of everything; ends with the first error.
absl::Status UseBackend() {
  SKV_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend, MakeBackend());
  const RandomMatrix matrix(SourceType::kBF16, 16, 16, 1);
  const MatrixSource source = matrix.source();
  SKV_ASSIGN_OR_RETURN(const WeightMatrix weight,
                       backend->PackWeights({&source, 1}));
  SKV_ASSIGN_OR_RETURN(const Buffer x, backend->Allocate(4 * 64 * 4));
  SKV_ASSIGN_OR_RETURN(const Buffer y, backend->Allocate(4 * 64 * 4));
  const std::vector<int32_t> numbers = {0, 1, 2, 3};
  SKV_RETURN_IF_ERROR(
      backend->Embed({&weight, numbers.data(), x.as<float>(), 4}));
  SKV_RETURN_IF_ERROR(backend->MatMul({.weight = &weight,
                                       .x = x.as<float>(),
                                       .bias = x.as<float>(),
                                       .out = y.as<float>(),
                                       .num_rows = 4,
                                       .accumulate = true}));
  SKV_RETURN_IF_ERROR(backend->RmsNorm(
      {y.as<float>(), x.as<float>(), y.as<float>(), 4, 16, 1e-5f}));
  SKV_RETURN_IF_ERROR(backend->SwiGlu({y.as<float>(), x.as<float>(), 4, 8}));
  SKV_RETURN_IF_ERROR(backend->GatherRows(
      {x.as<float>(), numbers.data(), y.as<float>(), 4, 16}));
  SKV_ASSIGN_OR_RETURN(const Buffer angles, backend->Allocate(4 * 8 * 4));
  SKV_RETURN_IF_ERROR(backend->RopeTable(
      {numbers.data(), x.as<float>(), angles.as<float>(), 4, 4}));
  const KvLayout layout = {
      .num_layers = 1, .num_pages = 4, .num_kv_heads = 1, .head_dim = 8};
  SKV_ASSIGN_OR_RETURN(const Buffer pool,
                       backend->Allocate(layout.total_bytes()));
  const KvLayerView kv = {pool.as<std::byte>(), layout};
  const KvSequence sequence = {0, 4, 0, numbers.data()};
  SKV_RETURN_IF_ERROR(backend->RopeStoreKv(
      {x.as<float>(), angles.as<float>(), kv, &sequence, 1, 2, 8}));
  SKV_RETURN_IF_ERROR(backend->CopyPages(
      {layout, pool.data(), numbers.data(), numbers.data() + 1, 2}));
  SKV_RETURN_IF_ERROR(
      backend->CopyRows({x.as<std::byte>(), 32, y.as<std::byte>(), 64, 32, 3}));
  float keys[4 * 8];
  SKV_RETURN_IF_ERROR(
      backend->ReadKeys({kv, 0, numbers.data(), numbers.data(), 4, keys}));
  SKV_RETURN_IF_ERROR(backend->Attention(
      {x.as<float>(), y.as<float>(), kv, &sequence, 1, 2, 1.0f}));
  float mass[2 * 4];
  SKV_RETURN_IF_ERROR(
      backend->AttentionMass({keys, 1, 3, kv, numbers.data(), 2, 1.0f, mass}));
  CopiesProgram program(*backend, 3);
  SKV_RETURN_IF_ERROR(program.Start());
  for (int step = 0; step < 8; ++step) {
    SKV_RETURN_IF_ERROR(program.Step(/*waits=*/true));
  }
  bool is_right = false;
  SKV_RETURN_IF_ERROR(program.Finish(&is_right));
  return is_right ? absl::OkStatus() : absl::DataLossError("wrong contents");
}

// A function whose calls fail, and what the backend's status must name;
// nullptr: there may be none.
struct FailingFunction {
  explicit FailingFunction(const char* name) : name(name), told(name) {}
  FailingFunction(const char* name, const char* told)
      : name(name), told(told) {}
  const char* name;
  const char* told;
};
void PrintTo(const FailingFunction& function, std::ostream* out) {
  *out << function.name;
}

class FaultsTest : public testing::TestWithParam<FailingFunction> {};

INSTANTIATE_TEST_SUITE_P(
    Functions, FaultsTest,
    testing::Values(
        FailingFunction{"cudaGetDeviceCount"},
        FailingFunction{"cudaDriverGetVersion"},
        FailingFunction{"cudaGetDeviceProperties"},
        FailingFunction{"cudaDeviceGetPCIBusId"},
        FailingFunction{"cudaMemGetInfo"},
        FailingFunction{"MarkBlock", nullptr},
        FailingFunction{"cudaStreamCreateWithFlags"},
        FailingFunction{"cudaEventCreateWithFlags"},
        FailingFunction{"cudaEventRecord"}, FailingFunction{"cudaEventQuery"},
        FailingFunction{"cudaStreamWaitEvent"},
        FailingFunction{"cudaEventSynchronize"}, FailingFunction{"cudaMalloc"},
        FailingFunction{"cudaHostRegister"}, FailingFunction{"cudaMemsetAsync"},
        FailingFunction{"cudaMemcpyAsync"},
        FailingFunction{"cudaMemcpy2DAsync"},
        // Told by the name of our function that launches.
        FailingFunction{"cudaLaunchKernelEx", "Launch"},
        FailingFunction{"cublasLtCreate"},
        FailingFunction{"cublasLtMatmulDescCreate"},
        FailingFunction{"cublasLtMatmulDescSetAttribute"},
        FailingFunction{"cublasLtMatrixLayoutCreate"},
        FailingFunction{"cublasLtMatmulPreferenceCreate"},
        FailingFunction{"cublasLtMatmulPreferenceSetAttribute"},
        FailingFunction{"cublasLtMatmulAlgoGetHeuristic"},
        FailingFunction{"cublasLtMatmul"},
        // Whoever frees memory has nobody to tell.
        FailingFunction{"cudaStreamSynchronize", nullptr}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_P(FaultsTest, EveryFailureIsToldAndNothingIsLost) {
  const FailingFunction& function = GetParam();
  cuda_sim::Reset({});
  const absl::Status status = UseBackend();
  ASSERT_TRUE(status.ok()) << status;
  const int64_t num_calls = cuda_sim::CallsOf(function.name);
  ASSERT_GT(num_calls, 0);
  cuda_sim::ExpectNothingLeft();
  for (int64_t n = 1; n <= num_calls; ++n) {
    SCOPED_TRACE(fmt::format("call {}", n));
    cuda_sim::Reset({.seed = static_cast<uint64_t>(n)});
    cuda_sim::FailCall(function.name, n);
    const absl::Status failed = UseBackend();
    // In another order of operations there may be fewer calls.
    if (function.told != nullptr && cuda_sim::CallsOf(function.name) >= n) {
      ASSERT_FALSE(failed.ok());
      EXPECT_NE(failed.message().find(function.told), absl::string_view::npos)
          << failed;
    }
    cuda_sim::ExpectNothingLeft();
  }
}

TEST(MakeCudaBackendTest, SaysWhatIsMissing) {
  const struct {
    const char* function;
    cudaError_t error;
    const char* words;
  } cases[] = {
      {"cudaGetDeviceCount", cudaErrorNoDevice, "needs an NVIDIA GPU"},
      {"cudaGetDeviceCount", cudaErrorInsufficientDriver,
       "needs an NVIDIA driver of CUDA"},
      {"cudaGetDeviceCount", cudaErrorSystemDriverMismatch,
       "needs a working NVIDIA GPU"},
      {"cudaMalloc", cudaErrorMemoryAllocation, "needs more memory"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.words);
    cuda_sim::Reset({});
    cuda_sim::FailCall(c.function, 1, c.error);
    const absl::Status status = MakeBackend().status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_NE(status.message().find(c.words), absl::string_view::npos)
        << status;
    cuda_sim::ExpectNothingLeft();
  }
}

// The simulated device sees what the tests of order rely on.
TEST(CopiesProgramTest, WithoutWaitsIsFoundOut) {
  int num_found = 0;
  for (uint32_t seed = 0; seed < 5; ++seed) {
    cuda_sim::Reset({.seed = seed});
    const auto backend = MakeBackend();
    ASSERT_TRUE(backend.ok()) << backend.status();
    CopiesProgram program(**backend, seed);
    ASSERT_TRUE(program.Start().ok());
    absl::Status status;
    for (int step = 0; step < 40 && status.ok(); ++step) {
      status = program.Step(/*waits=*/false);
    }
    bool is_right = false;
    status.Update(program.Finish(&is_right));
    num_found += cuda_sim::TakeReports().empty() ? 0 : 1;
  }
  EXPECT_EQ(num_found, 5);
}

}  // namespace
}  // namespace sentencekv
