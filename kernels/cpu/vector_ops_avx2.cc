#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/vector_ops.h"
#include "kernels/cpu/vector_ops_kernel.h"

namespace sentencekv {

void FillVectorOpsAvx2(CpuKernels& kernels) {
  kernels.rms_norm = [](WorkerPool& pool, const RmsNormParams& params) {
    RunRmsNorm(pool, params, kVectorOpsKernels);
  };
  kernels.swiglu = [](WorkerPool& pool, const SwiGluParams& params) {
    RunSwiGlu(pool, params, kVectorOpsKernels);
  };
}

}  // namespace sentencekv
