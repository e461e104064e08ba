// Twins of ldmatrix and mma; kernels/cuda/ptx.h says which lane holds what.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda_sim/fiber_calls.h"

namespace cuda_sim {

void LoadMatrices(uint32_t (&registers)[4], const void* row, bool transposed,
                  Place place = Here());

struct MmaOperand {
  float* c;           // [4]
  const uint32_t* a;  // [4]
  const uint32_t* b;  // [2]
};
void MultiplyBf16(void* const (&operands)[32]);
void MultiplyF16(void* const (&operands)[32]);

template <typename T>
CUDA_SIM_OWN void Mma16x8x16(float (&c)[4], const uint32_t (&a)[4],
                             const uint32_t (&b)[2], Place place = Here()) {
  constexpr bool kIsBf16 = std::is_same_v<T, __nv_bfloat16>;
  static_assert(kIsBf16 || std::is_same_v<T, __half>);
  MmaOperand operand{c, a, b};
  WarpCollective("mma", 0xffffffffu, &operand,
                 kIsBf16 ? &MultiplyBf16 : &MultiplyF16, place);
}

}  // namespace cuda_sim
