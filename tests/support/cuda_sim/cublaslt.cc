// cuBLASLt as far as it is used: y = x W^T for row-major matrices, W and x
// bf16 or f16, sums and y f32, beta 0 or 1, a bias added at will. In cuBLASLt's
// columns: D [n, t] = op(A) B, A = W [k, n] transposed, B = x [k, t].
#include <cublasLt.h>

#include <algorithm>
#include <cstring>

#include "tests/support/cuda_sim/matrix_product.h"
#include "tests/support/cuda_sim/runtime_state.h"
#include "tests/support/cuda_sim/runtime_stream.h"

namespace cuda_sim {
namespace {

// What stands behind cuBLASLt's opaque descriptors.
struct Description {
  cublasOperation_t a_operation = CUBLAS_OP_N;
  cublasOperation_t b_operation = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const float* bias = nullptr;
};
struct Preference {
  uint64_t scratch_bytes = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};  // of A, B, C, D
};
// What an algorithm was chosen for; lies in cuBLASLt's struct for it.
struct Algorithm {
  uint32_t is_ours;
  uint32_t n;
  uint32_t k;
  uint32_t epilogue;
  uint32_t alignment[4];
  uint64_t scratch_bytes;
};
constexpr uint32_t kOurs = 0x51a1u;
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

cublasStatus_t StatusOf(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return CUBLAS_STATUS_SUCCESS;
    case cudaErrorMemoryAllocation:
      return CUBLAS_STATUS_ALLOC_FAILED;
    case cudaErrorInvalidValue:
      return CUBLAS_STATUS_INVALID_VALUE;
    default:
      return CUBLAS_STATUS_EXECUTION_FAILED;
  }
}

template <typename T, typename Opaque, typename... Values>
cublasStatus_t Create(const char* name, Opaque** object, Values... values) {
  return StatusOf(RuntimeCall(name, [&] {
    *object = reinterpret_cast<Opaque*>(new T{values...});
    return cudaSuccess;
  }));
}
template <typename T, typename Opaque>
cublasStatus_t Destroy(const char* name, Opaque* object) {
  return StatusOf(ReleasingCall(name, [&] {
    delete reinterpret_cast<T*>(object);
    return cudaSuccess;
  }));
}

template <typename T>
cudaError_t Set(T* attribute, const void* value, size_t size) {
  if (size != sizeof(T)) return Misused("an attribute of another size");
  std::memcpy(attribute, value, size);
  return cudaSuccess;
}

bool IsSupported(const Description& description, const Layout& a,
                 const Layout& b, const Layout& c, const Layout& d) {
  const bool is_16_bit = a.type == CUDA_R_16BF || a.type == CUDA_R_16F;
  const bool is_same_c = c.type == d.type && c.rows == d.rows &&
                         c.cols == d.cols && c.stride == d.stride;
  const bool has_known_epilogue =
      description.epilogue == CUBLASLT_EPILOGUE_DEFAULT ||
      description.epilogue == CUBLASLT_EPILOGUE_BIAS;
  return description.a_operation == CUBLAS_OP_T &&
         description.b_operation == CUBLAS_OP_N && is_16_bit &&
         b.type == a.type && d.type == CUDA_R_32F && is_same_c &&
         has_known_epilogue && a.rows == b.rows && d.rows == a.cols &&
         d.cols == b.cols && a.stride >= static_cast<int64_t>(a.rows) &&
         b.stride >= static_cast<int64_t>(b.rows) &&
         d.stride >= static_cast<int64_t>(d.rows) && a.rows > 0 && d.cols > 0;
}

}  // namespace
}  // namespace cuda_sim

using cuda_sim::Description;
using cuda_sim::Layout;
using cuda_sim::Preference;
using cuda_sim::RuntimeCall;
using cuda_sim::StatusOf;

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  return StatusOf(RuntimeCall(__func__, [&] {
    *handle = reinterpret_cast<cublasLtHandle_t>(new int(0));
    return cudaSuccess;
  }));
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  return StatusOf(cuda_sim::ReleasingCall(__func__, [&] {
    delete reinterpret_cast<int*>(handle);
    return cudaSuccess;
  }));
}

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
  }
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description,
                                        cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  return cuda_sim::Create<Description>(__func__, description);
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
  return cuda_sim::Destroy<Description>(__func__, description);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(
    cublasLtMatmulDesc_t opaque, cublasLtMatmulDescAttributes_t attribute,
    const void* value, size_t size) {
  return StatusOf(RuntimeCall(__func__, [&] {
    auto* description = reinterpret_cast<Description*>(opaque);
    switch (attribute) {
      case CUBLASLT_MATMUL_DESC_TRANSA:
        return cuda_sim::Set(&description->a_operation, value, size);
      case CUBLASLT_MATMUL_DESC_TRANSB:
        return cuda_sim::Set(&description->b_operation, value, size);
      case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return cuda_sim::Set(&description->epilogue, value, size);
      case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return cuda_sim::Set(&description->bias, value, size);
      default:
        return cuda_sim::Misused("an attribute that the simulation lacks");
    }
  }));
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout,
                                          cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t stride) {
  return cuda_sim::Create<Layout>(__func__, layout, type, rows, cols, stride);
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return cuda_sim::Destroy<Layout>(__func__, layout);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(
    cublasLtMatmulPreference_t* preference) {
  return cuda_sim::Create<Preference>(__func__, preference);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(
    cublasLtMatmulPreference_t preference) {
  return cuda_sim::Destroy<Preference>(__func__, preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(
    cublasLtMatmulPreference_t opaque,
    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
    size_t size) {
  return StatusOf(RuntimeCall(__func__, [&] {
    auto* preference = reinterpret_cast<Preference*>(opaque);
    uint32_t ignored = 0;
    switch (attribute) {
      case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return cuda_sim::Set(&preference->scratch_bytes, value, size);
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
        return cuda_sim::Set(&preference->alignment[0], value, size);
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
        return cuda_sim::Set(&preference->alignment[1], value, size);
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
        return cuda_sim::Set(&preference->alignment[2], value, size);
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return cuda_sim::Set(&preference->alignment[3], value, size);
      case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return cuda_sim::Set(&ignored, value, size);
      default:
        return cuda_sim::Misused("an attribute that the simulation lacks");
    }
  }));
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
    cublasLtHandle_t, cublasLtMatmulDesc_t description,
    cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
    cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
    cublasLtMatmulPreference_t preference, int num_requested,
    cublasLtMatmulHeuristicResult_t* results, int* num_results) {
  return StatusOf(RuntimeCall(__func__, [&] {
    *num_results = 0;
    const auto& wanted = *reinterpret_cast<const Preference*>(preference);
    const auto& matrix = *reinterpret_cast<const Layout*>(a);
    const auto& operation = *reinterpret_cast<const Description*>(description);
    if (num_requested < 1 ||
        !cuda_sim::IsSupported(operation, matrix,
                               *reinterpret_cast<const Layout*>(b),
                               *reinterpret_cast<const Layout*>(c),
                               *reinterpret_cast<const Layout*>(d))) {
      return cudaSuccess;
    }
    cuda_sim::Algorithm algorithm = {};
    algorithm.is_ours = cuda_sim::kOurs;
    algorithm.n = static_cast<uint32_t>(matrix.cols);
    algorithm.k = static_cast<uint32_t>(matrix.rows);
    algorithm.epilogue = static_cast<uint32_t>(operation.epilogue);
    std::memcpy(algorithm.alignment, wanted.alignment,
                sizeof(algorithm.alignment));
    algorithm.scratch_bytes = std::min<uint64_t>(wanted.scratch_bytes, 4096);
    results[0] = {};
    std::memcpy(&results[0].algo, &algorithm, sizeof(algorithm));
    results[0].workspaceSize = algorithm.scratch_bytes;
    results[0].state = CUBLAS_STATUS_SUCCESS;
    *num_results = 1;
    return cudaSuccess;
  }));
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t,
                              cublasLtMatmulDesc_t description,
                              const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout,
                              void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* chosen, void* scratch,
                              size_t scratch_bytes, cudaStream_t stream) {
  return StatusOf(RuntimeCall(__func__, [&] {
    const auto& operation = *reinterpret_cast<const Description*>(description);
    cuda_sim::Algorithm algorithm;
    std::memcpy(&algorithm, chosen, sizeof(algorithm));
    cuda_sim::Product p;
    p.a = static_cast<const std::byte*>(a);
    p.b = static_cast<const std::byte*>(b);
    p.d = static_cast<float*>(d);
    p.a_layout = *reinterpret_cast<const Layout*>(a_layout);
    p.b_layout = *reinterpret_cast<const Layout*>(b_layout);
    p.d_layout = *reinterpret_cast<const Layout*>(d_layout);
    p.alpha = *static_cast<const float*>(alpha);
    p.beta = *static_cast<const float*>(beta);
    p.bias =
        operation.epilogue == CUBLASLT_EPILOGUE_BIAS ? operation.bias : nullptr;
    p.scratch = static_cast<std::byte*>(scratch);
    p.scratch_bytes = algorithm.scratch_bytes;
    if (algorithm.is_ours != cuda_sim::kOurs ||
        !cuda_sim::IsSupported(operation, p.a_layout, p.b_layout,
                               *reinterpret_cast<const Layout*>(c_layout),
                               p.d_layout) ||
        algorithm.n != p.a_layout.cols || algorithm.k != p.a_layout.rows ||
        algorithm.epilogue != static_cast<uint32_t>(operation.epilogue) ||
        algorithm.scratch_bytes > scratch_bytes || c != d) {
      return cuda_sim::Misused("a product that its algorithm is not for");
    }
    const void* operands[4] = {a, b, c, d};
    for (int i = 0; i < 4; ++i) {
      if (reinterpret_cast<uintptr_t>(operands[i]) % algorithm.alignment[i]) {
        return cuda_sim::Misused("an operand is less aligned than promised");
      }
    }
    return cuda_sim::Submit(
        stream, {"matmul", nullptr, [p] { return cuda_sim::RunProduct(p); }});
  }));
}

}  // extern "C"
