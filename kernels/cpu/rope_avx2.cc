#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/rope.h"
#include "kernels/cpu/rope_kernel.h"

namespace sentencekv {

void FillRopeAvx2(CpuKernels& kernels) {
  kernels.rope_store_kv = [](WorkerPool& pool,
                             const RopeStoreKvParams& params) {
    RunRopeStoreKv(pool, params, TurnAndStoreToken);
  };
}

}  // namespace sentencekv
