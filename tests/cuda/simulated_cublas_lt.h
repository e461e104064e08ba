// The simulated device's cuBLASLt, as the backend is given it.
#pragma once

#include "kernels/cuda/cublas_lt_table.h"

namespace sentencekv {

inline CublasLtTable SimulatedCublasLt() {
  return {.Create = &cublasLtCreate,
          .Destroy = &cublasLtDestroy,
          .GetStatusName = &cublasLtGetStatusName,
          .MatmulDescCreate = &cublasLtMatmulDescCreate,
          .MatmulDescDestroy = &cublasLtMatmulDescDestroy,
          .MatmulDescSetAttribute = &cublasLtMatmulDescSetAttribute,
          .MatrixLayoutCreate = &cublasLtMatrixLayoutCreate,
          .MatrixLayoutDestroy = &cublasLtMatrixLayoutDestroy,
          .MatmulPreferenceCreate = &cublasLtMatmulPreferenceCreate,
          .MatmulPreferenceDestroy = &cublasLtMatmulPreferenceDestroy,
          .MatmulPreferenceSetAttribute = &cublasLtMatmulPreferenceSetAttribute,
          .MatmulAlgoGetHeuristic = &cublasLtMatmulAlgoGetHeuristic,
          .Matmul = &cublasLtMatmul};
}

}  // namespace sentencekv
