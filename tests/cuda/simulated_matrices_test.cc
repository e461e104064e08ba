// Products on the simulated device, by the matrix instructions and by cuBLASLt,
// against plain loops.
#include <cublasLt.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/half.h"
#include "tests/cuda/matrix_kernels.h"
#include "tests/support/cuda_sim/sim_device.h"

namespace sentencekv {
namespace {

using cuda_sim::Finding;
using cuda_sim::SimDevice;

// Small whole numbers: products and sums are exact in every format.
std::vector<float> SmallNumbers(size_t count, int seed) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(static_cast<int>((i * 7 + seed) % 11) - 5);
  }
  return values;
}

std::vector<uint16_t> Bits(const std::vector<float>& values, bool is_bf16) {
  std::vector<uint16_t> bits;
  for (float value : values) {
    bits.push_back(is_bf16 ? F32ToBf16(value) : F32ToF16(value));
  }
  return bits;
}

TEST(SimulatedMatricesTest, TheMatrixInstructionsMultiply) {
  const std::vector<float> a = SmallNumbers(16 * 16, 1);
  const std::vector<float> b = SmallNumbers(16 * 8, 4);
  for (const bool is_bf16 : {true, false}) {
    for (const bool is_transposed : {true, false}) {
      SimDevice device(3);
      MatrixLaunch launch;
      launch.a = device.Upload(Bits(a, is_bf16));
      launch.b = device.Upload(Bits(b, is_bf16));
      launch.out = device.Device<float>(16 * 8);
      launch.is_bf16 = is_bf16;
      launch.is_b_transposed = is_transposed;
      ASSERT_EQ(LaunchMatrix(launch, device.stream()), cudaSuccess);
      const std::vector<float> out = device.Download(launch.out, 16 * 8);
      ASSERT_EQ(out.size(), 16u * 8);
      for (int i = 0; i < 16; ++i) {
        for (int j = 0; j < 8; ++j) {
          float sum = 0;
          for (int k = 0; k < 16; ++k) {
            sum +=
                a[i * 16 + k] * (is_transposed ? b[k * 8 + j] : b[j * 16 + k]);
          }
          EXPECT_EQ(out[i * 8 + j], sum) << i << ", " << j;
        }
      }
    }
  }
}

// y [t][n] = x [t][k] w^T, w [n][k], all row by row.
struct MatmulRun {
  uint64_t n, k, t;
  bool has_bias = false;
  float beta = 0;
};

class CublasLt {
 public:
  CublasLt() {
    EXPECT_EQ(cublasLtCreate(&handle_), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(
        cublasLtMatmulDescCreate(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F),
        CUBLAS_STATUS_SUCCESS);
    const cublasOperation_t transpose = CUBLAS_OP_T;
    Set(CUBLASLT_MATMUL_DESC_TRANSA, transpose);
  }
  ~CublasLt() {
    cublasLtMatmulDescDestroy(operation_);
    cublasLtDestroy(handle_);
  }

  template <typename T>
  void Set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    EXPECT_EQ(cublasLtMatmulDescSetAttribute(operation_, attribute, &value,
                                             sizeof(value)),
              CUBLAS_STATUS_SUCCESS);
  }

  cublasStatus_t Multiply(const MatmulRun& run, const void* w, const void* x,
                          float* y, void* scratch, cudaStream_t stream) {
    const cublasLtMatrixLayout_t w_layout = Layout(CUDA_R_16BF, run.k, run.n);
    const cublasLtMatrixLayout_t x_layout = Layout(CUDA_R_16BF, run.k, run.t);
    const cublasLtMatrixLayout_t y_layout = Layout(CUDA_R_32F, run.n, run.t);
    cublasLtMatmulPreference_t preference = nullptr;
    cublasLtMatmulPreferenceCreate(&preference);
    const uint64_t scratch_bytes = 1024;
    cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &scratch_bytes,
        sizeof(scratch_bytes));
    cublasLtMatmulHeuristicResult_t result = {};
    int num_results = 0;
    EXPECT_EQ(cublasLtMatmulAlgoGetHeuristic(
                  handle_, operation_, w_layout, x_layout, y_layout, y_layout,
                  preference, 1, &result, &num_results),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(num_results, 1);
    const float one = 1;
    const cublasStatus_t status = cublasLtMatmul(
        handle_, operation_, &one, w, w_layout, x, x_layout, &run.beta, y,
        y_layout, y, y_layout, &result.algo, scratch, scratch_bytes, stream);
    cublasLtMatmulPreferenceDestroy(preference);
    for (cublasLtMatrixLayout_t layout : {w_layout, x_layout, y_layout}) {
      cublasLtMatrixLayoutDestroy(layout);
    }
    return status;
  }

 private:
  static cublasLtMatrixLayout_t Layout(cudaDataType type, uint64_t rows,
                                       uint64_t cols) {
    cublasLtMatrixLayout_t layout = nullptr;
    EXPECT_EQ(cublasLtMatrixLayoutCreate(&layout, type, rows, cols,
                                         static_cast<int64_t>(rows)),
              CUBLAS_STATUS_SUCCESS);
    return layout;
  }

  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t operation_ = nullptr;
};

TEST(SimulatedMatricesTest, CublasLtMultipliesAndAdds) {
  for (const MatmulRun& run : std::vector<MatmulRun>{
           {1, 1, 1}, {5, 37, 3}, {64, 40, 7, true}, {9, 16, 2, true, 1.0f}}) {
    SimDevice device(2);
    CublasLt blas;
    const std::vector<float> w = SmallNumbers(run.n * run.k, 2);
    const std::vector<float> x = SmallNumbers(run.t * run.k, 5);
    const std::vector<float> bias = SmallNumbers(run.n, 3);
    const std::vector<float> before = SmallNumbers(run.t * run.n, 8);
    float* y = device.Upload(before);
    if (run.has_bias) {
      blas.Set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      const float* on_device = device.Upload(bias);
      blas.Set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, on_device);
    }
    ASSERT_EQ(blas.Multiply(run, device.Upload(Bits(w, true)),
                            device.Upload(Bits(x, true)), y,
                            device.Device<char>(1024), device.stream()),
              CUBLAS_STATUS_SUCCESS);
    const std::vector<float> out = device.Download(y, run.t * run.n);
    ASSERT_EQ(out.size(), run.t * run.n);
    for (uint64_t i = 0; i < run.t; ++i) {
      for (uint64_t j = 0; j < run.n; ++j) {
        float sum = run.beta * before[i * run.n + j];
        if (run.has_bias) sum += bias[j];
        for (uint64_t k = 0; k < run.k; ++k) {
          sum += x[i * run.k + k] * w[j * run.k + k];
        }
        EXPECT_EQ(out[i * run.n + j], sum) << i << ", " << j;
      }
    }
  }
}

TEST(SimulatedMatricesTest, TwoProductsMustNotShareScratch) {
  SimDevice device(2);
  CublasLt blas;
  const MatmulRun run = {8, 16, 4};
  const uint16_t* w = device.Upload(std::vector<uint16_t>(run.n * run.k));
  const uint16_t* x = device.Upload(std::vector<uint16_t>(run.t * run.k));
  char* scratch = device.Device<char>(1024);
  for (const cudaStream_t stream : {device.stream(), device.NewStream()}) {
    float* y = device.Device<float>(run.n * run.t);
    ASSERT_EQ(blas.Multiply(run, w, x, y, scratch, stream),
              CUBLAS_STATUS_SUCCESS);
  }
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  const std::vector<cuda_sim::Report> reports = cuda_sim::TakeReports();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].finding, Finding::kOperationRace) << reports[0].text;
}

TEST(SimulatedMatricesTest, AResultBeyondItsMemoryIsFound) {
  SimDevice device(2);
  CublasLt blas;
  const MatmulRun run = {8, 16, 4};
  ASSERT_EQ(
      blas.Multiply(run, device.Upload(std::vector<uint16_t>(run.n * run.k)),
                    device.Upload(std::vector<uint16_t>(run.t * run.k)),
                    device.Device<float>(run.n * run.t - 1),
                    device.Device<char>(1024), device.stream()),
      CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cudaStreamSynchronize(device.stream()), cudaErrorLaunchFailure);
  const std::vector<cuda_sim::Report> reports = cuda_sim::TakeReports();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].finding, Finding::kOutOfBounds) << reports[0].text;
}

}  // namespace
}  // namespace sentencekv
