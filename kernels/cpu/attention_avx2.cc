#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/cpu_kernels.h"

namespace sentencekv {

void FillAttentionAvx2(CpuKernels& kernels) {
  kernels.attention = kAttentionKernels;
}

}  // namespace sentencekv
