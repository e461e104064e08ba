// Operations on rows. Formulas: kernels/cuda/row_kernels.h.
//
// Grid: a block of 256 threads for each row; SwiGlu and RoundRows, which have
// the widest rows, cut a row into pieces of 1,024 columns along the grid's y,
// so that a single row still keeps a GPU busy.
// A thread takes 4 neighbouring columns (16 bytes) where all rows are aligned
// so, else single ones; columns beyond the row are left out by the loop.
// Shared memory: the 128 bytes of BlockSum, for RmsNorm.
// The sum of a row's squares is taken in an order that depends on its width
// alone: a row gets the same bits among any others.
// Limits: at most 2^31 - 1 rows; 65,535 pieces, 67 million columns.
#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_kernels.h"

namespace sentencekv {
namespace {

constexpr int kThreads = 256;
// Columns of a piece of a row.
constexpr int kPieceColumns = 4 * kThreads;

// Whether rows that are `width` floats apart all begin at multiples of 16
// bytes.
bool IsAligned(const void* rows, int64_t width) {
  return reinterpret_cast<uintptr_t>(rows) % 16 == 0 && width % 4 == 0;
}

LaunchShape BlockPerRow(int64_t num_rows) {
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>(num_rows));
  shape.block = dim3(kThreads);
  return shape;
}

LaunchShape BlockPerPiece(int64_t num_rows, int64_t width) {
  LaunchShape shape = BlockPerRow(num_rows);
  shape.grid.y = static_cast<unsigned>(CeilDiv(width, kPieceColumns));
  return shape;
}

// Calls f(column) for this thread's share of columns begin..end-1, each
// kColumns neighbours. REQUIRES: whole numbers of kColumns.
template <int kColumns, typename F>
__device__ __forceinline__ void ForColumns(int64_t begin, int64_t end,
                                           const F& f) {
  for (int64_t i = begin + threadIdx.x * kColumns; i < end;
       i += kThreads * kColumns) {
    f(i);
  }
}

// The same for the block's piece of a row of `width` columns.
template <int kColumns, typename F>
__device__ __forceinline__ void ForPiece(int64_t width, const F& f) {
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * kPieceColumns;
  const int64_t end =
      begin + kPieceColumns < width ? begin + kPieceColumns : width;
  ForColumns<kColumns>(begin, end, f);
}

template <int kColumns>
__global__ void __launch_bounds__(kThreads) EmbedKernel(EmbedLaunch p) {
  const int64_t row = blockIdx.x;
  const __nv_bfloat16* from = static_cast<const __nv_bfloat16*>(p.table) +
                              p.tokens[row] * p.table_stride;
  float* to = p.out + row * p.width;
  ForColumns<kColumns>(0, p.width, [&](int64_t i) {
    const auto values = LoadVector<__nv_bfloat16, kColumns>(from + i);
    Vector<float, kColumns> floats;
    for (int j = 0; j < kColumns; ++j) floats[j] = ToFloat(values[j]);
    StoreVector(to + i, floats);
  });
}

template <int kColumns>
__global__ void __launch_bounds__(kThreads) RmsNormKernel(RmsNormLaunch p) {
  const int64_t row = blockIdx.x;
  const float* x = p.x + row * p.width;
  float* out = p.out + row * p.width;
  float squares = 0;
  ForColumns<kColumns>(0, p.width, [&](int64_t i) {
    const auto values = LoadVector<float, kColumns>(x + i);
    for (int j = 0; j < kColumns; ++j) squares += values[j] * values[j];
  });
  const float mean = BlockSum(squares) / static_cast<float>(p.width);
  const float inverse = 1.0f / sqrtf(mean + p.epsilon);
  ForColumns<kColumns>(0, p.width, [&](int64_t i) {
    auto values = LoadVector<float, kColumns>(x + i);
    const auto weight = LoadVector<float, kColumns>(p.weight + i);
    for (int j = 0; j < kColumns; ++j) {
      values[j] = values[j] * inverse * weight[j];
    }
    StoreVector(out + i, values);
  });
}

template <int kColumns>
__global__ void __launch_bounds__(kThreads) SwiGluKernel(SwiGluLaunch p) {
  const int64_t row = blockIdx.x;
  const float* gate_row = p.gate_up + row * 2 * p.width;
  const float* up_row = gate_row + p.width;
  float* out = p.out + row * p.width;
  ForPiece<kColumns>(p.width, [&](int64_t i) {
    auto gate = LoadVector<float, kColumns>(gate_row + i);
    const auto up = LoadVector<float, kColumns>(up_row + i);
    for (int j = 0; j < kColumns; ++j) {
      // Far below 0 the exponential overflows, and the quotient is 0 as it
      // should be.
      gate[j] = gate[j] / (1.0f + expf(-gate[j])) * up[j];
    }
    StoreVector(out + i, gate);
  });
}

template <int kColumns>
__global__ void __launch_bounds__(kThreads)
    GatherRowsKernel(GatherRowsLaunch p) {
  const int64_t row = blockIdx.x;
  const float* from = p.x + p.rows[row] * p.width;
  float* to = p.out + row * p.width;
  ForColumns<kColumns>(0, p.width, [&](int64_t i) {
    StoreVector(to + i, LoadVector<float, kColumns>(from + i));
  });
}

template <int kColumns>
__global__ void __launch_bounds__(kThreads) RoundRowsKernel(RoundRowsLaunch p) {
  const int64_t row = blockIdx.x;
  const float* x = p.x + row * p.width;
  auto* out = static_cast<__nv_bfloat16*>(p.out) + row * p.out_stride;
  ForPiece<kColumns>(p.out_stride, [&](int64_t i) {
    Vector<__nv_bfloat16, kColumns> rounded;
    for (int j = 0; j < kColumns; ++j) {
      rounded[j] = FromFloat<__nv_bfloat16>(0.0f);
    }
    if (i < p.width) {
      const auto values = LoadVector<float, kColumns>(x + i);
      for (int j = 0; j < kColumns; ++j) {
        rounded[j] = FromFloat<__nv_bfloat16>(values[j]);
      }
    }
    StoreVector(out + i, rounded);
  });
}

}  // namespace

cudaError_t LaunchEmbed(const EmbedLaunch& launch, cudaStream_t stream) {
  const LaunchShape shape = BlockPerRow(launch.num_tokens);
  return IsAligned(launch.out, launch.width)
             ? Launch(EmbedKernel<4>, shape, stream, launch)
             : Launch(EmbedKernel<1>, shape, stream, launch);
}

cudaError_t LaunchRmsNorm(const RmsNormLaunch& launch, cudaStream_t stream) {
  const LaunchShape shape = BlockPerRow(launch.num_rows);
  const bool is_aligned = IsAligned(launch.x, launch.width) &&
                          IsAligned(launch.weight, launch.width) &&
                          IsAligned(launch.out, launch.width);
  return is_aligned ? Launch(RmsNormKernel<4>, shape, stream, launch)
                    : Launch(RmsNormKernel<1>, shape, stream, launch);
}

cudaError_t LaunchSwiGlu(const SwiGluLaunch& launch, cudaStream_t stream) {
  const LaunchShape shape = BlockPerPiece(launch.num_rows, launch.width);
  const bool is_aligned = IsAligned(launch.gate_up, launch.width) &&
                          IsAligned(launch.out, launch.width);
  return is_aligned ? Launch(SwiGluKernel<4>, shape, stream, launch)
                    : Launch(SwiGluKernel<1>, shape, stream, launch);
}

cudaError_t LaunchGatherRows(const GatherRowsLaunch& launch,
                             cudaStream_t stream) {
  const LaunchShape shape = BlockPerRow(launch.num_rows);
  const bool is_aligned =
      IsAligned(launch.x, launch.width) && IsAligned(launch.out, launch.width);
  return is_aligned ? Launch(GatherRowsKernel<4>, shape, stream, launch)
                    : Launch(GatherRowsKernel<1>, shape, stream, launch);
}

cudaError_t LaunchRoundRows(const RoundRowsLaunch& launch,
                            cudaStream_t stream) {
  const LaunchShape shape = BlockPerPiece(launch.num_rows, launch.out_stride);
  return IsAligned(launch.x, launch.width)
             ? Launch(RoundRowsKernel<4>, shape, stream, launch)
             : Launch(RoundRowsKernel<1>, shape, stream, launch);
}

}  // namespace sentencekv
