// The functions of cuBLASLt that we call, looked up when the program runs: one
// binary starts on machines with cuBLAS and on those without.
#pragma once

#include <cublasLt.h>

#include "absl/status/statusor.h"

namespace sentencekv {

// Members are named as in cublasLt.h, without the prefix cublasLt.
struct CublasLtTable {
  decltype(&cublasLtCreate) Create = nullptr;
  decltype(&cublasLtDestroy) Destroy = nullptr;
  decltype(&cublasLtGetStatusName) GetStatusName = nullptr;
  decltype(&cublasLtMatmulDescCreate) MatmulDescCreate = nullptr;
  decltype(&cublasLtMatmulDescDestroy) MatmulDescDestroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) MatmulDescSetAttribute = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) MatrixLayoutCreate = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) MatrixLayoutDestroy = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) MatmulPreferenceCreate = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) MatmulPreferenceDestroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) MatmulPreferenceSetAttribute =
      nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) MatmulAlgoGetHeuristic = nullptr;
  decltype(&cublasLtMatmul) Matmul = nullptr;
};

// Opens the system's cuBLASLt, of the major version we were compiled for, for
// the rest of the process. kFailedPrecondition with what is missing.
absl::StatusOr<CublasLtTable> LoadCublasLt();

}  // namespace sentencekv
