// GatherRunsKernel: runs[r][half][t] = pool[page][head][half][t], for the
// tokens t of each missing run.
//
// A warp has one missing run after the other, in the order of the lists, so
// that the blocks share them evenly. Its lanes take neighbouring 16 bytes, and
// each asks for eight before it stores the first: 256 threads have 32 KiB on
// the way, four blocks 128 KiB, more than a bus of 16 lanes holds. Grid:
// num_blocks.
//
// Reads and writes 2 D elements for each token; 4 bytes a list and 16 a run in
// every block.
//
// Shared memory: 4 bytes a list, 512 for tokens. Alignment: 16 bytes. Limits:
// 4,096 lists, D x element size a multiple of 16.
#include "kernels/cuda/block_scan.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/gather_kernels.h"
#include "kernels/cuda/launch.h"

namespace sentencekv {
namespace {

constexpr int kGatherThreads = 256;
constexpr int kGatherWarps = kGatherThreads / kWarpSize;
constexpr int kTokens = static_cast<int>(kPageTokens);

using Piece = Vector<uint32_t, 4>;  // 16 bytes

// Fills ends[i] with the number of runs in the lists up to i.
__device__ __forceinline__ void CountRuns(const GatherRunsLaunch& launch,
                                          int* ends) {
  int sum = 0;
  const auto num_lists = static_cast<int>(launch.num_lists);
  for (int begin = 0; begin < num_lists; begin += kGatherThreads) {
    const int list = begin + static_cast<int>(threadIdx.x);
    const int count = list < num_lists ? launch.num_missing[list] : 0;
    uint64_t total = 0;
    const auto before =
        static_cast<int>(BlockSumBefore(static_cast<unsigned>(count), &total));
    if (list < num_lists) ends[list] = sum + before + count;
    sum += static_cast<int>(total);
  }
  __syncthreads();
}

// Missing run i of all lists.
__device__ __forceinline__ MissingRun FindRun(const GatherRunsLaunch& launch,
                                              const int* ends, int i) {
  int low = 0;
  auto high = static_cast<int>(launch.num_lists) - 1;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (ends[middle] <= i) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const int begin = low == 0 ? 0 : ends[low - 1];
  return launch.missing[low * launch.most_missing + i - begin];
}

// Copies a run; `tokens` is memory for them. All lanes of the warp call.
__device__ __forceinline__ void CopyRun(const GatherRunsLaunch& launch,
                                        const MissingRun& missing,
                                        int64_t token_bytes, int* tokens) {
  constexpr int kAhead = 8;
  constexpr auto kPieceBytes = static_cast<int>(sizeof(Piece));
  const int64_t half_bytes = kTokens * token_bytes;
  const std::byte* const from = launch.pool.base +
                                missing.host_page * launch.pool.page_stride +
                                missing.kv_head * launch.pool.head_stride;
  std::byte* const to = launch.runs + missing.run * 2 * half_bytes;

  __syncwarp();  // the readers of the run before are done
  if (LaneId() < kTokens && (missing.tokens >> LaneId() & 1) != 0) {
    tokens[__popc(missing.tokens & ((1u << LaneId()) - 1))] = LaneId();
  }
  __syncwarp();
  const int count = __popc(missing.tokens);
  const auto token_pieces = static_cast<int>(token_bytes / kPieceBytes);
  const int half_pieces = count * token_pieces;
  const auto offset = [&](int piece) {
    const bool is_value = piece >= half_pieces;
    const int of_half = is_value ? piece - half_pieces : piece;
    return (is_value ? half_bytes : 0) +
           tokens[of_half / token_pieces] * token_bytes +
           of_half % token_pieces * kPieceBytes;
  };
  for (int begin = LaneId(); begin < 2 * half_pieces;
       begin += kAhead * kWarpSize) {
    int64_t offsets[kAhead] = {};
    Piece pieces[kAhead] = {};
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int piece = begin + i * kWarpSize;
      if (piece >= 2 * half_pieces) continue;
      offsets[i] = offset(piece);
      pieces[i] =
          LoadVector(reinterpret_cast<const uint32_t*>(from + offsets[i]));
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (begin + i * kWarpSize >= 2 * half_pieces) continue;
      StoreVector(reinterpret_cast<uint32_t*>(to + offsets[i]), pieces[i]);
    }
  }
}

__global__ void __launch_bounds__(kGatherThreads)
    GatherRunsKernel(GatherRunsLaunch launch) {
  CU_SHARED(int, tokens, kGatherWarps* kTokens);
  auto* const ends = DynamicShared<int>();
  CountRuns(launch, ends);
  const int64_t token_bytes =
      launch.pool.head_dim * (launch.pool.dtype == DType::kF32 ? 4 : 2);
  const int num_runs = ends[launch.num_lists - 1];
  const auto num_warps = static_cast<int>(gridDim.x) * kGatherWarps;
  for (int i = static_cast<int>(blockIdx.x) * kGatherWarps + WarpId();
       i < num_runs; i += num_warps) {
    CopyRun(launch, FindRun(launch, ends, i), token_bytes,
            tokens + WarpId() * kTokens);
  }
}

}  // namespace

cudaError_t LaunchGatherRuns(const GatherRunsLaunch& launch,
                             cudaStream_t stream) {
  const auto piece = static_cast<int64_t>(sizeof(Piece));
  if (launch.num_lists == 0) return cudaSuccess;
  if (launch.num_lists > kMostGatheredLists ||
      launch.pool.head_dim * SizeOf(launch.pool.dtype) % piece != 0) {
    return cudaErrorInvalidValue;
  }
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>(launch.num_blocks));
  shape.block = dim3(kGatherThreads);
  shape.shared_bytes = launch.num_lists * sizeof(int);
  return Launch(GatherRunsKernel, shape, stream, launch);
}

}  // namespace sentencekv
