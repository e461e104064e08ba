// One warp: cp.async to shared memory, ldmatrix to registers, one mma.
#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"
#include "tests/cuda/matrix_kernels.h"

namespace sentencekv {
namespace {

__global__ void Matrix(MatrixLaunch p) {
  CU_SHARED(uint16_t, a_tile, 16 * 16);
  CU_SHARED(uint16_t, b_tile, 16 * 16);
  const int lane = LaneId();
  // 32 pieces of 8 elements are a; 16 are b, and nothing behind it.
  CpAsync16(a_tile + 8 * lane, p.a + 8 * lane);
  CpAsync16(b_tile + 8 * lane, p.b + 8 * lane, /*is_there=*/lane < 16);
  CpAsyncCommit();
  CpAsyncWait<0>();
  __syncwarp();

  // Matrices of a: rows 0-7, rows 8-15, then the right half of both.
  uint32_t a[4];
  const int matrix = lane / 8;
  const int row = lane % 8;
  LoadMatrices(a, a_tile + (matrix % 2 * 8 + row) * 16 + matrix / 2 * 8);
  uint32_t b[4];
  if (p.is_b_transposed) {
    // [16][8]: k 0-7, k 8-15, then zeros.
    LoadMatricesTransposed(b, b_tile + (matrix * 8 + row) * 8);
  } else {
    // [8][16]: the left half is k 0-7, the right k 8-15.
    const int column = matrix % 2 * 8;
    LoadMatrices(b, b_tile + row * 16 + column);
  }
  float c[4] = {};
  const uint32_t b_pair[2] = {b[0], b[1]};
  if (p.is_bf16) {
    Mma16x8x16<__nv_bfloat16>(c, a, b_pair);
  } else {
    Mma16x8x16<__half>(c, a, b_pair);
  }
  for (int i = 0; i < 4; ++i) {
    const int out_row = lane / 4 + i / 2 * 8;
    p.out[out_row * 8 + lane % 4 * 2 + i % 2] = c[i];
  }
}

}  // namespace

cudaError_t LaunchMatrix(const MatrixLaunch& launch, cudaStream_t stream) {
  LaunchShape shape;
  shape.grid = dim3(1);
  shape.block = dim3(kWarpSize);
  return Launch(Matrix, shape, stream, launch);
}

}  // namespace sentencekv
