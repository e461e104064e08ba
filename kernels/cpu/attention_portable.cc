#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/cpu_kernels.h"

namespace sentencekv {

void FillAttentionPortable(CpuKernels& kernels) {
  kernels.attention = [](WorkerPool& pool, const AttentionParams& params) {
    RunAttention(pool, params, kAttentionKernels);
  };
}

}  // namespace sentencekv
