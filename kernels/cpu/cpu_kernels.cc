#include "kernels/cpu/cpu_kernels.h"

#include "kernels/check.h"

namespace sentencekv {
namespace {

CpuKernels MakeKernels(CpuLevel level) {
  CpuKernels kernels;
  FillMatMulPortable(kernels);
  FillVectorOpsPortable(kernels);
  FillRopePortable(kernels);
  FillAttentionPortable(kernels);
  FillSentencesPortable(kernels);
  if (level == CpuLevel::kPortable) return kernels;
#if defined(__x86_64__)
  FillMatMulAvx2(kernels);
  FillVectorOpsAvx2(kernels);
  FillRopeAvx2(kernels);
  FillAttentionAvx2(kernels);
  FillSentencesAvx2(kernels);
  if (level == CpuLevel::kAvx2) return kernels;
  FillMatMulAvx512(kernels);
  FillVectorOpsAvx512(kernels);
  FillRopeAvx512(kernels);
  FillAttentionAvx512(kernels);
  FillSentencesAvx512(kernels);
#endif
  return kernels;
}

}  // namespace

const CpuKernels& KernelsOf(CpuLevel level) {
  static const CpuKernels kernels[] = {MakeKernels(CpuLevel::kPortable),
                                       MakeKernels(CpuLevel::kAvx2),
                                       MakeKernels(CpuLevel::kAvx512)};
  SKV_CHECK(level <= DetectCpuLevel());
  return kernels[static_cast<int>(level)];
}

}  // namespace sentencekv
