// Products of activations and weight matrices, by cuBLASLt.
#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/cublas_lt_table.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_streams.h"
#include "kernels/cuda/step_graphs.h"
#include "kernels/cuda/workspace.h"
#include "kernels/op_params.h"

namespace sentencekv {

// x is rounded to bf16; products are summed in f32, the bias and what `out`
// held are added in f32. One thread, and the compute stream.
//
// Which algorithm sums a matrix's products is chosen once, for a middling
// number of rows, and without splitting K: the same row gets the same bits
// among however many others.
class MatrixProducts {
 public:
  static absl::StatusOr<std::unique_ptr<MatrixProducts>> Create(
      const CublasLtTable& table, CudaStreams& streams, StepGraphs& graphs,
      DeviceArena& arena, size_t scratch_bytes);
  ~MatrixProducts();
  MatrixProducts(const MatrixProducts&) = delete;
  MatrixProducts& operator=(const MatrixProducts&) = delete;

  // REQUIRES: checked arguments; a weight of kernels/cuda/bf16_matrix.h.
  absl::Status Run(const MatMulParams& params);

 private:
  // What the choice of an algorithm depends on.
  struct Shape {
    int64_t rows;  // of the weights, N
    int64_t cols;  // K, padded
    bool has_bias;
    bool accumulates;
    uint32_t out_alignment;  // bytes
    auto operator<=>(const Shape&) const = default;
  };
  struct Description;

  MatrixProducts(const CublasLtTable& table, CudaStreams& streams,
                 StepGraphs& graphs, DeviceArena& arena)
      : table_(table), streams_(streams), graphs_(graphs), rounded_(arena) {}
  absl::Status CublasStatus(cublasStatus_t status, const char* function) const;
  // The product of `num_rows` rows, as cuBLASLt is told of it.
  absl::StatusOr<Description> Describe(const Shape& shape, int64_t num_rows,
                                       const float* bias) const;
  absl::StatusOr<const cublasLtMatmulAlgo_t*> AlgorithmFor(const Shape& shape,
                                                           const float* bias);
  absl::StatusOr<cublasLtMatmulAlgo_t> ChooseAlgorithm(const Shape& shape,
                                                       const float* bias) const;
  absl::StatusOr<const void*> RoundInput(const MatMulParams& params,
                                         int64_t stride);
  absl::Status Submit(const MatMulParams& params, const Shape& shape,
                      const void* x, const cublasLtMatmulAlgo_t* algorithm);

  const CublasLtTable table_;
  CudaStreams& streams_;
  StepGraphs& graphs_;
  cublasLtHandle_t handle_ = nullptr;
  DeviceMemory scratch_;  // of cuBLASLt's kernels
  Workspace rounded_;     // x in bf16
  std::map<Shape, cublasLtMatmulAlgo_t> algorithms_;
};

}  // namespace sentencekv
