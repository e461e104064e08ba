#include "kernels/cuda/cublas_lt_table.h"

#include <dlfcn.h>

#include <string>

#include "absl/status/status.h"
#include "fmt/format.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

template <typename Function>
absl::Status Find(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  if (*function != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("cuBLASLt has no function {}", name));
}

}  // namespace

absl::StatusOr<CublasLtTable> LoadCublasLt() {
  const std::string name = fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR);
  // Never closed: handles and the device's context hold on to it.
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return absl::FailedPreconditionError(fmt::format(
        "the CUDA backend needs cuBLAS {}, whose libraries the dynamic linker "
        "must find: {}",
        CUBLAS_VER_MAJOR, dlerror()));
  }
  CublasLtTable table;
#define SKV_FIND(name) \
  SKV_RETURN_IF_ERROR(Find(library, "cublasLt" #name, &table.name))
  SKV_FIND(Create);
  SKV_FIND(Destroy);
  SKV_FIND(GetStatusName);
  SKV_FIND(MatmulDescCreate);
  SKV_FIND(MatmulDescDestroy);
  SKV_FIND(MatmulDescSetAttribute);
  SKV_FIND(MatrixLayoutCreate);
  SKV_FIND(MatrixLayoutDestroy);
  SKV_FIND(MatmulPreferenceCreate);
  SKV_FIND(MatmulPreferenceDestroy);
  SKV_FIND(MatmulPreferenceSetAttribute);
  SKV_FIND(MatmulAlgoGetHeuristic);
  SKV_FIND(Matmul);
#undef SKV_FIND
  return table;
}

}  // namespace sentencekv
