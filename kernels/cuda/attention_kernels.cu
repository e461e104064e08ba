// out = softmax(scale q k^T) v, row by row and head by head, with the order of
// arithmetic that attention_kernels.h fixes: blocks of 64 keys update a running
// maximum m, sum s and output o (Milakov and Gimelshein,
// https://arxiv.org/abs/1805.02867), in powers of two:
//
//   m' = max(m, max x)   s' = s 2^(m - m') + sum 2^(x - m')
//   o' = o 2^(m - m') + sum 2^(x - m') v
//
// A block of threads takes one part of a tile: the queries of the heads of one
// KV head, which share every read of K and V, and one partition of 256 keys or
// all of them. Grid: parts of all tiles x KV heads.
//
// MmaKernel, for bf16 and f16 where D is a multiple of 16: a warp has 16
// queries (for D > 128 two warps have, and half of the output each). 1 warp
// decodes, the query heads of a KV head filling its rows; 4 share K and V in
// prefill. What a warp does is the same, and so are the bits. Blocks of K and
// of V take turns in a ring of 3 (D > 128: 2) in shared memory: cp.async fills
// the next ones while one is read, with one barrier for each:
//   1. scores: 16 x 64 of q K^T, in registers
//   2. softmax: a row lies in 4 lanes
//   3. output: weights V, into registers; the sum of the weights is one more
//      column, of ones, so that it is summed as the outputs are
// Shared memory: (64 x ring + queries) (D + 8) x 2 bytes: D = 128: 55 KiB for
// kFew and 68 KiB for kMany, D = 256: at most 83 KiB.
//
// FmaKernel, for all others: 256 threads; for each block of keys, with barriers
// between:
//   1. K into shared memory, 16 bytes an access
//   2. scores: a thread has one key and one query (kFew) or four (kMany)
//   3. V over K; meanwhile a warp has one query, two keys a lane: softmax
//   4. output: a thread has one dimension and kQueries queries in registers
// Shared memory: 64 (D + 4) floats of K or V, queries x D, 64 (queries + 4)
// scores and 7 floats a query: at most 91 KiB (D = 256), 43 KiB for kFew at D =
// 128.
//
// MergeKernel: a block of D rounded up to warps joins the parts of one query.
// Grid: tiles x queries x KV heads.
//
// K, V and q are multiples of 16 bytes from the start of their memory. Limits:
// D a multiple of 8 in 8..256; f16: q scale log2(e) below 65504.
#include "kernels/cuda/attention_fma.h"
#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/attention_mma.h"
#include "kernels/cuda/attention_tile.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/token_block.h"

namespace sentencekv {
namespace {

template <typename T, int kQueries>
__global__ void __launch_bounds__(kTokenThreads, kQueries == 4 ? 3 : 2)
    FmaKernel(AttentionLaunch launch) {
  const QueryTile tile = FindTile(launch);
  const int64_t head_dim = launch.kv.head_dim;
  int lanes = 64;  // threads that share a query's dimensions
  while (lanes < head_dim) lanes *= 2;
  const int capacity = kTokenThreads / lanes * kQueries;
  FmaPart<T, kQueries> part = {
      launch,
      tile,
      {launch.kv.base + (tile.kv_head + blockIdx.y) * launch.kv.head_stride,
       launch.kv.page_stride, head_dim, launch.pages + tile.page_begin},
      CutShared(capacity, head_dim),
      static_cast<int>(threadIdx.x) % lanes,
      static_cast<int>(threadIdx.x) / lanes * kQueries,
      false,
      {},
      {}};
  part.has_output = part.dim < head_dim && part.first_query < tile.num_queries;
  const SharedState& shared = part.shared;
  LoadQueries(launch, tile, capacity, shared.q);
  for (int i = threadIdx.x; i < kBlockTokens * shared.weight_stride;
       i += kTokenThreads) {
    shared.weights[i] = 0;  // of queries that the tile does not have
  }
  for (int i = threadIdx.x; i < capacity; i += kTokenThreads) {
    shared.factor[i] = shared.left[i] = shared.right[i] = 0;
    shared.total_maximum[i] = kLowestScore;
    shared.total_sum[i] = 0;
  }
  part.Run();
}

template <typename T, int kDims>
__global__ void __launch_bounds__(kMmaThreads)
    MmaKernel(AttentionLaunch launch) {
  const QueryTile tile = FindTile(launch);
  MmaPart<T, kDims> part(launch, tile);
  part.Run();
}

__global__ void MergeKernel(AttentionLaunch launch) {
  const QueryTile tile = launch.tiles[blockIdx.x];
  const int query = blockIdx.y;
  const int64_t head_dim = launch.kv.head_dim;
  const int64_t dim = threadIdx.x;
  if (tile.first_state < 0 || query >= tile.num_queries || dim >= head_dim) {
    return;  // no barrier follows
  }
  const int64_t width = head_dim + kAttentionStateExtra;
  const int64_t num_parts = NumPartitions(tile);
  const float* state =
      launch.states +
      (tile.first_state + blockIdx.z * num_parts * tile.num_queries + query) *
          width;
  float maximum = kLowestScore;
  float sum = 0;
  float output = 0;
#pragma unroll 4
  for (int64_t i = 0; i < num_parts; ++i) {
    const MergeFactors factors = FactorsOf(maximum, state[head_dim]);
    maximum = factors.maximum;
    sum = MergeInto(sum, factors.left, state[head_dim + 1], factors.right);
    output = MergeInto(output, factors.left, state[dim], factors.right);
    state += tile.num_queries * width;
  }
  const auto group = launch.num_heads / launch.kv.num_kv_heads;
  const int64_t of_sequence = tile.first_query + query;
  const int64_t row = tile.row_begin + of_sequence / group;
  const int64_t head =
      (tile.kv_head + blockIdx.z) * group + of_sequence % group;
  launch.out[(row * launch.num_heads + head) * head_dim + dim] =
      output * (1.0f / sum);
}

using Kernel = void (*)(AttentionLaunch);

// A kernel, and what a block of it has.
struct AttendChoice {
  Kernel kernel;
  int64_t threads;
  int64_t shared_bytes;
};

template <typename T>
AttendChoice ChooseFma(int64_t queries, AttentionTileSize size,
                       int64_t head_dim) {
  return {
      size == AttentionTileSize::kFew ? FmaKernel<T, 4> : FmaKernel<T, 16>,
      kTokenThreads,
      SharedFloats(queries, head_dim) * static_cast<int64_t>(sizeof(float))};
}

template <typename T, int kDims>
AttendChoice ChooseMma(int64_t queries, int64_t head_dim) {
  using Shape = MmaShape<kDims>;
  return {MmaKernel<T, kDims>, Shape::Threads(queries),
          Shape::SharedBytes(queries, head_dim)};
}

template <typename T>
AttendChoice Choose16Bit(int64_t queries, AttentionTileSize size, DType dtype,
                         int64_t head_dim) {
  if (!AttendsOnTensorCores(dtype, head_dim)) {
    return ChooseFma<T>(queries, size, head_dim);
  }
  if (head_dim <= 64) return ChooseMma<T, 64>(queries, head_dim);
  if (head_dim <= 128) return ChooseMma<T, 128>(queries, head_dim);
  return ChooseMma<T, 256>(queries, head_dim);
}

AttendChoice Choose(int64_t queries, const AttentionLaunch& launch) {
  const DType dtype = launch.kv.dtype;
  const int64_t head_dim = launch.kv.head_dim;
  switch (dtype) {
    case DType::kF32:
      return ChooseFma<float>(queries, launch.size, head_dim);
    case DType::kF16:
      return Choose16Bit<__half>(queries, launch.size, dtype, head_dim);
    case DType::kBF16:
      return Choose16Bit<__nv_bfloat16>(queries, launch.size, dtype, head_dim);
  }
  return {};
}

}  // namespace

cudaError_t LaunchAttention(const AttentionLaunch& launch,
                            cudaStream_t stream) {
  const int64_t head_dim = launch.kv.head_dim;
  if (head_dim < 8 || head_dim > 256 || head_dim % 8 != 0 ||
      launch.num_kv_heads > kMaxAttentionKvHeads) {
    return cudaErrorInvalidValue;
  }
  if (launch.num_tiles == 0) return cudaSuccess;
  const int64_t queries = TileQueries(launch.size, launch.kv.dtype, head_dim);
  const AttendChoice choice = Choose(queries, launch);
  const auto kv_heads = static_cast<unsigned>(launch.num_kv_heads);
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>(launch.num_parts), kv_heads);
  shape.block = dim3(static_cast<unsigned>(choice.threads));
  shape.shared_bytes = static_cast<size_t>(choice.shared_bytes);
  const cudaError_t error = Launch(choice.kernel, shape, stream, launch);
  if (error != cudaSuccess || !launch.has_cut_tiles) return error;
  LaunchShape merge;
  merge.grid = dim3(static_cast<unsigned>(launch.num_tiles),
                    static_cast<unsigned>(queries), kv_heads);
  merge.block =
      dim3(static_cast<unsigned>(CeilDiv(head_dim, kWarpSize) * kWarpSize));
  return Launch(MergeKernel, merge, stream, launch);
}

}  // namespace sentencekv
