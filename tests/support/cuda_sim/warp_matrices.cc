// The products of mma and the loads of ldmatrix, for a whole warp at once.
#include "cuda_sim/warp_matrices.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <bit>
#include <cstring>
#include <type_traits>

#include "cuda_sim/fiber_calls.h"
#include "tests/support/cuda_sim/access_check.h"
#include "tests/support/cuda_sim/fiber_exec.h"

namespace cuda_sim {
namespace {

// Element `half` (0 or 1) of a register of two.
template <typename T>
float Element(uint32_t pair, int half) {
  const auto bits = static_cast<uint16_t>(half == 0 ? pair : pair >> 16);
  return static_cast<float>(std::bit_cast<T>(bits));
}

// c += a b over the fragments of 32 lanes; ptx.h has the layout.
template <typename T>
void Multiply(void* const (&operands)[32]) {
  float a[16][16];
  float b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& mine = *static_cast<const MmaOperand*>(operands[lane]);
    const int g = lane / 4;
    const int t = lane % 4 * 2;
    for (int half = 0; half < 2; ++half) {
      a[g][t + half] = Element<T>(mine.a[0], half);
      a[g + 8][t + half] = Element<T>(mine.a[1], half);
      a[g][t + 8 + half] = Element<T>(mine.a[2], half);
      a[g + 8][t + 8 + half] = Element<T>(mine.a[3], half);
      b[t + half][g] = Element<T>(mine.b[0], half);
      b[t + 8 + half][g] = Element<T>(mine.b[1], half);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    float* c = static_cast<const MmaOperand*>(operands[lane])->c;
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + (i < 2 ? 0 : 8);
      const int column = lane % 4 * 2 + i % 2;
      for (int k = 0; k < 16; ++k) c[i] += a[row][k] * b[k][column];
    }
  }
}

struct LoadOperand {
  const unsigned char* row;
  uint32_t* registers;  // [4]
  bool transposed;
};

void Distribute(void* const (&operands)[32]) {
  for (int lane = 0; lane < 32; ++lane) {
    const auto& mine = *static_cast<const LoadOperand*>(operands[lane]);
    for (int matrix = 0; matrix < 4; ++matrix) {
      const auto element = [&](int row, int column) {
        const auto* owner =
            static_cast<const LoadOperand*>(operands[8 * matrix + row]);
        uint16_t bits;
        std::memcpy(&bits, owner->row + 2 * column, sizeof(bits));
        return uint32_t{bits};
      };
      const int i = lane / 4;
      const int j = lane % 4 * 2;
      mine.registers[matrix] = mine.transposed
                                   ? element(j, i) | element(j + 1, i) << 16
                                   : element(i, j) | element(i, j + 1) << 16;
    }
  }
}

}  // namespace

void MultiplyBf16(void* const (&operands)[32]) {
  Multiply<__nv_bfloat16>(operands);
}
void MultiplyF16(void* const (&operands)[32]) { Multiply<__half>(operands); }

void LoadMatrices(uint32_t (&registers)[4], const void* row, bool transposed,
                  Place place) {
  // Each lane answers for the row that it names.
  CheckAccess(reinterpret_cast<uintptr_t>(row), 16, AccessKind::kRead, 16,
              __builtin_return_address(0));
  LoadOperand operand{static_cast<const unsigned char*>(row), registers,
                      transposed};
  WarpCollective("ldmatrix", 0xffffffffu, &operand, &Distribute, place);
}

}  // namespace cuda_sim
