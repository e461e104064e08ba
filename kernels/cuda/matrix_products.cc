#include "kernels/cuda/matrix_products.h"

#include <memory>
#include <type_traits>

#include "fmt/format.h"
#include "kernels/cuda/bf16_matrix.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/row_kernels.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// Rows that algorithms are chosen for: with many more or fewer they are a
// little slower than the best.
constexpr int64_t kTypicalRows = 64;
// What rows of weights and of rounded activations are aligned to.
constexpr uint32_t kInputAlignment = 16;

// A descriptor of cuBLASLt, and the function that frees it.
template <typename Descriptor>
using Owned = std::unique_ptr<std::remove_pointer_t<Descriptor>,
                              cublasStatus_t (*)(Descriptor)>;

}  // namespace

#define SKV_RETURN_IF_CUBLAS_ERROR(function, ...) \
  SKV_RETURN_IF_ERROR(                            \
      CublasStatus(table_.function(__VA_ARGS__), "cublasLt" #function))

struct MatrixProducts::Description {
  Owned<cublasLtMatmulDesc_t> operation;
  // cuBLAS thinks in columns: a row-major [rows, cols] is its [cols, rows].
  Owned<cublasLtMatrixLayout_t> weight;  // [K, N], transposed by the operation
  Owned<cublasLtMatrixLayout_t> x;       // [K, T]
  Owned<cublasLtMatrixLayout_t> out;     // [N, T]
};

absl::Status MatrixProducts::CublasStatus(cublasStatus_t status,
                                          const char* function) const {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  const std::string message =
      fmt::format("{}: {}", function, table_.GetStatusName(status));
  return status == CUBLAS_STATUS_ALLOC_FAILED
             ? absl::ResourceExhaustedError(message)
             : absl::InternalError(message);
}

absl::StatusOr<std::unique_ptr<MatrixProducts>> MatrixProducts::Create(
    const CublasLtTable& table, CudaStreams& streams, StepGraphs& graphs,
    DeviceArena& arena, size_t scratch_bytes) {
  std::unique_ptr<MatrixProducts> products(
      new MatrixProducts(table, streams, graphs, arena));
  SKV_RETURN_IF_ERROR(products->CublasStatus(table.Create(&products->handle_),
                                             "cublasLtCreate"));
  SKV_ASSIGN_OR_RETURN(
      products->scratch_,
      DeviceMemory::Allocate(arena, scratch_bytes, MemoryUse::kWorkspace));
  return products;
}

MatrixProducts::~MatrixProducts() {
  if (handle_ != nullptr) (void)table_.Destroy(handle_);
}

absl::StatusOr<MatrixProducts::Description> MatrixProducts::Describe(
    const Shape& shape, int64_t num_rows, const float* bias) const {
  cublasLtMatmulDesc_t operation = nullptr;
  SKV_RETURN_IF_CUBLAS_ERROR(MatmulDescCreate, &operation, CUBLAS_COMPUTE_32F,
                             CUDA_R_32F);
  Description description = {{operation, table_.MatmulDescDestroy},
                             {nullptr, table_.MatrixLayoutDestroy},
                             {nullptr, table_.MatrixLayoutDestroy},
                             {nullptr, table_.MatrixLayoutDestroy}};
  const cublasOperation_t transpose = CUBLAS_OP_T;
  SKV_RETURN_IF_CUBLAS_ERROR(MatmulDescSetAttribute, operation,
                             CUBLASLT_MATMUL_DESC_TRANSA, &transpose,
                             sizeof(transpose));
  if (shape.has_bias) {
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    SKV_RETURN_IF_CUBLAS_ERROR(MatmulDescSetAttribute, operation,
                               CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                               sizeof(epilogue));
    SKV_RETURN_IF_CUBLAS_ERROR(MatmulDescSetAttribute, operation,
                               CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                               sizeof(bias));
  }
  const auto n = static_cast<uint64_t>(shape.rows);
  const auto k = static_cast<uint64_t>(shape.cols);
  const auto t = static_cast<uint64_t>(num_rows);
  const auto lay_out = [&](cudaDataType type, uint64_t rows, uint64_t cols,
                           Owned<cublasLtMatrixLayout_t>* owner) {
    cublasLtMatrixLayout_t layout = nullptr;
    const cublasStatus_t status = table_.MatrixLayoutCreate(
        &layout, type, rows, cols, static_cast<int64_t>(rows));
    owner->reset(layout);
    return CublasStatus(status, "cublasLtMatrixLayoutCreate");
  };
  SKV_RETURN_IF_ERROR(lay_out(CUDA_R_16BF, k, n, &description.weight));
  SKV_RETURN_IF_ERROR(lay_out(CUDA_R_16BF, k, t, &description.x));
  SKV_RETURN_IF_ERROR(lay_out(CUDA_R_32F, n, t, &description.out));
  return description;
}

absl::StatusOr<cublasLtMatmulAlgo_t> MatrixProducts::ChooseAlgorithm(
    const Shape& shape, const float* bias) const {
  SKV_ASSIGN_OR_RETURN(const Description description,
                       Describe(shape, kTypicalRows, bias));
  cublasLtMatmulPreference_t created = nullptr;
  SKV_RETURN_IF_CUBLAS_ERROR(MatmulPreferenceCreate, &created);
  const Owned<cublasLtMatmulPreference_t> preference(
      created, table_.MatmulPreferenceDestroy);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute,
                          auto value) {
    return CublasStatus(table_.MatmulPreferenceSetAttribute(
                            created, attribute, &value, sizeof(value)),
                        "cublasLtMatmulPreferenceSetAttribute");
  };
  SKV_RETURN_IF_ERROR(prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                             static_cast<uint64_t>(scratch_.size_bytes())));
  SKV_RETURN_IF_ERROR(
      prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
             static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE)));
  SKV_RETURN_IF_ERROR(
      prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, kInputAlignment));
  SKV_RETURN_IF_ERROR(
      prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, kInputAlignment));
  SKV_RETURN_IF_ERROR(
      prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, shape.out_alignment));
  SKV_RETURN_IF_ERROR(
      prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, shape.out_alignment));

  cublasLtMatmulHeuristicResult_t result = {};
  int num_results = 0;
  SKV_RETURN_IF_CUBLAS_ERROR(
      MatmulAlgoGetHeuristic, handle_, description.operation.get(),
      description.weight.get(), description.x.get(), description.out.get(),
      description.out.get(), created, 1, &result, &num_results);
  if (num_results == 0) {
    return absl::InternalError(
        fmt::format("cuBLASLt has no algorithm for a matrix [{}, {}]",
                    shape.rows, shape.cols));
  }
  SKV_RETURN_IF_ERROR(
      CublasStatus(result.state, "cublasLtMatmulAlgoGetHeuristic"));
  return result.algo;
}

absl::StatusOr<const cublasLtMatmulAlgo_t*> MatrixProducts::AlgorithmFor(
    const Shape& shape, const float* bias) {
  const auto found = algorithms_.find(shape);
  if (found != algorithms_.end()) return &found->second;
  SKV_ASSIGN_OR_RETURN(const cublasLtMatmulAlgo_t algorithm,
                       ChooseAlgorithm(shape, bias));
  return &algorithms_.emplace(shape, algorithm).first->second;
}

absl::StatusOr<const void*> MatrixProducts::RoundInput(
    const MatMulParams& params, int64_t stride) {
  SKV_ASSIGN_OR_RETURN(
      std::byte* const rounded,
      rounded_.AtLeast(Bf16MatrixBytes(params.num_rows, params.weight->cols)));
  SKV_RETURN_IF_ERROR(graphs_.Launch("LaunchRoundRows", LaunchRoundRows,
                                     {.x = params.x,
                                      .out = rounded,
                                      .num_rows = params.num_rows,
                                      .width = params.weight->cols,
                                      .out_stride = stride}));
  return rounded;
}

absl::Status MatrixProducts::Run(const MatMulParams& given) {
  MatMulParams params = given;
  params.num_rows = graphs_.Rows(given.num_rows);
  const bool is_aligned = reinterpret_cast<uintptr_t>(params.out) % 16 == 0;
  const Shape shape = {.rows = params.weight->rows,
                       .cols = Bf16Stride(params.weight->cols),
                       .has_bias = params.bias != nullptr,
                       .accumulates = params.accumulate,
                       .out_alignment = is_aligned ? 16u : 4u};
  SKV_ASSIGN_OR_RETURN(const void* const x, RoundInput(params, shape.cols));
  SKV_ASSIGN_OR_RETURN(const cublasLtMatmulAlgo_t* const algorithm,
                       AlgorithmFor(shape, params.bias));
  return graphs_.Submit(ProductCall{.weight = params.weight->data.data(),
                                    .rows = shape.rows,
                                    .cols = shape.cols,
                                    .x = x,
                                    .bias = params.bias,
                                    .out = params.out,
                                    .num_rows = params.num_rows,
                                    .accumulate = params.accumulate,
                                    .scratch = scratch_.data()},
                        [&] { return Submit(params, shape, x, algorithm); });
}

absl::Status MatrixProducts::Submit(const MatMulParams& params,
                                    const Shape& shape, const void* x,
                                    const cublasLtMatmulAlgo_t* algorithm) {
  SKV_ASSIGN_OR_RETURN(const Description description,
                       Describe(shape, params.num_rows, params.bias));
  const float one = 1;
  const float keep = params.accumulate ? 1 : 0;
  SKV_RETURN_IF_CUBLAS_ERROR(
      Matmul, handle_, description.operation.get(), &one,
      params.weight->data.data(), description.weight.get(), x,
      description.x.get(), &keep, params.out, description.out.get(), params.out,
      description.out.get(), algorithm, scratch_.data(), scratch_.size_bytes(),
      streams_.compute());
  return absl::OkStatus();
}

}  // namespace sentencekv
