#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"
#include "tests/cuda/sample_kernels.h"

namespace sentencekv {
namespace {

constexpr int kMaxThreads = 256;

__device__ int Index() {
  return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
}

__global__ void Reverse(SampleLaunch p) {
  CU_SHARED(float, tile, kMaxThreads);
  const int i = static_cast<int>(threadIdx.x);
  tile[i] = 0;
  __syncthreads();
  tile[i] = p.in[i];
  if (!p.is_broken) __syncthreads();
  p.out[i] = tile[p.count - 1 - i];
}

__global__ void WarpReverse(SampleLaunch p) {
  CU_SHARED(float, tile, kMaxThreads);
  const int i = static_cast<int>(threadIdx.x);
  tile[i] = p.in[Index()];
  // A shuffle between the two does not order them.
  float sum = WarpSum(tile[i]);
  if (!p.is_broken) __syncwarp();
  p.out[Index()] = tile[WarpId() * kWarpSize + 31 - LaneId()] + 0 * sum;
}

__global__ void TreeSum(SampleLaunch p) {
  CU_SHARED(float, part, kMaxThreads);
  const int i = static_cast<int>(threadIdx.x);
  part[i] = p.in[Index()];
  for (int half = static_cast<int>(blockDim.x) / 2; half > 0; half /= 2) {
    if (!p.is_broken || half != 64) __syncthreads();
    if (i < half) part[i] += part[i + half];
  }
  if (i == 0) p.out[blockIdx.x] = part[0];
}

__global__ void TwoSums(SampleLaunch p) {
  CU_SHARED(float, part, kWarpSize);
  float both = 0;
  for (int round = 0; round < 2; ++round) {
    const float sum = WarpSum(p.in[Index()]);
    if (LaneId() == 0) part[WarpId()] = sum;
    __syncthreads();
    both += WarpSum(LaneId() < NumWarps() ? part[LaneId()] : 0.0f);
    if (!p.is_broken) __syncthreads();
  }
  if (threadIdx.x == 0) p.out[blockIdx.x] = both;
}

__global__ void Bounds(SampleLaunch p) {
  const int i = Index();
  if (i < p.count + (p.is_broken ? 1 : 0)) p.out[i] = 1.0f;
}

__global__ void Unwritten(SampleLaunch p) {
  CU_SHARED(float, tile, kMaxThreads);
  const int i = static_cast<int>(threadIdx.x);
  if (!p.is_broken || i != 5) tile[i] = p.in[Index()];
  __syncthreads();
  p.out[Index()] = tile[i];
}

__global__ void EarlyReturn(SampleLaunch p) {
  CU_SHARED(float, tile, kMaxThreads);
  const bool is_inside = Index() < p.count;
  if (p.is_broken && !is_inside) return;
  tile[threadIdx.x] = is_inside ? p.in[Index()] : 0.0f;
  __syncthreads();
  if (is_inside) p.out[Index()] = tile[threadIdx.x];
}

__global__ void HalfBarrier(SampleLaunch p) {
  CU_SHARED(float, tile, kMaxThreads);
  tile[threadIdx.x] = p.in[Index()];
  if (p.is_broken && threadIdx.x < kWarpSize) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  p.out[Index()] = tile[blockDim.x - 1 - threadIdx.x];
}

__global__ void ShuffleMask(SampleLaunch p) {
  const unsigned mask = p.is_broken && LaneId() >= 16 ? 0xffff0000u : kFullMask;
  p.out[Index()] = __shfl_xor_sync(mask, p.in[Index()], 1);
}

__global__ void ShuffleBranch(SampleLaunch p) {
  float value = p.in[Index()];
  if (!p.is_broken || LaneId() < 16) {
    value = __shfl_xor_sync(kFullMask, value, 1);
  }
  p.out[Index()] = value;
}

__global__ void ShuffleSource(SampleLaunch p) {
  const float value = p.in[Index()];
  float result = 0;
  if (LaneId() < 16) {
    result = __shfl_sync(0xffffu, value, p.is_broken ? 16 : 15);
  }
  p.out[Index()] = result;
}

__global__ void BlockCounter(SampleLaunch p) {
  if (threadIdx.x == 0) {
    if (p.is_broken) {
      *p.counter += 1;
    } else {
      atomicAdd(p.counter, 1u);
    }
  }
}

// As split-K kernels that merge in the block that ends last.
__global__ void LastBlock(SampleLaunch p) {
  CU_SHARED(unsigned, ticket, 1);
  const float sum = BlockSum(p.in[Index()]);
  if (threadIdx.x == 0) {
    p.out[1 + blockIdx.x] = sum;
    if (!p.is_broken) __threadfence();
    ticket[0] = atomicAdd(p.counter, 1u);
  }
  __syncthreads();
  if (ticket[0] == gridDim.x - 1) {
    float total = 0;
    for (unsigned i = threadIdx.x; i < gridDim.x; i += blockDim.x) {
      total += p.out[1 + i];
    }
    total = BlockSum(total);
    if (threadIdx.x == 0) p.out[0] = total;
  }
}

// A thread copies four elements, and reads those of its neighbour.
__device__ void CopyAsync(const SampleLaunch& p, bool waits, bool meets) {
  CU_SHARED(float, tile, 4 * kMaxThreads);
  const int i = static_cast<int>(threadIdx.x);
  CpAsync16(tile + 4 * i, p.in + 4 * Index());
  CpAsyncCommit();
  if (waits) CpAsyncWait<0>();
  if (meets) __syncthreads();
  const int other = static_cast<int>(blockDim.x) - 1 - i;
  p.out[Index()] = tile[4 * other];
}
__global__ void AsyncCopy(SampleLaunch p) { CopyAsync(p, !p.is_broken, true); }
__global__ void AsyncBarrier(SampleLaunch p) {
  CopyAsync(p, true, !p.is_broken);
}

__global__ void Alignment(SampleLaunch p) {
  const float* from = p.in + 4 * Index() + (p.is_broken ? 1 : 0);
  if (4 * Index() + 8 <= p.count) {
    StoreVector(p.out + 4 * Index(), LoadVector(from));
  }
}

__global__ void SharedOverrun(SampleLaunch p) {
  auto* tile = DynamicShared<float>();
  const int i = static_cast<int>(threadIdx.x);
  tile[i] = p.in[Index()];
  __syncthreads();
  p.out[Index()] = tile[i + (p.is_broken ? 1 : 0)];
}

// The reader that also writes may be the last: the other has read, too.
__global__ void ReadModify(SampleLaunch p) {
  CU_SHARED(float, sum, 1);
  if (threadIdx.x == 0) sum[0] = p.in[blockIdx.x];
  __syncthreads();
  const bool is_reader = threadIdx.x == 3 || threadIdx.x == 7;
  const float value = is_reader ? sum[0] : 0.0f;
  if (!p.is_broken) __syncthreads();
  if (threadIdx.x == 7) sum[0] = value + 1;
  if (threadIdx.x == 3) p.out[blockIdx.x] = value;
}

__global__ void ByteNeighbours(SampleLaunch p) {
  auto* bytes = reinterpret_cast<uint8_t*>(p.out);
  const int i = Index();
  bytes[p.is_broken && i == 7 ? 6 : i] = static_cast<uint8_t>(i);
}

using Kernel = void (*)(SampleLaunch);
constexpr Kernel kKernels[] = {
    Reverse,       WarpReverse,   TreeSum,     TwoSums,       Bounds,
    Unwritten,     EarlyReturn,   HalfBarrier, ShuffleMask,   ShuffleBranch,
    ShuffleSource, BlockCounter,  LastBlock,   AsyncCopy,     AsyncBarrier,
    Alignment,     SharedOverrun, ReadModify,  ByteNeighbours};
static_assert(sizeof(kKernels) / sizeof(Kernel) ==
              static_cast<size_t>(Sample::kNumSamples));

}  // namespace

cudaError_t LaunchSample(Sample sample, const SampleLaunch& launch,
                         unsigned blocks, unsigned threads,
                         cudaStream_t stream) {
  LaunchShape shape;
  shape.grid = dim3(blocks);
  shape.block = dim3(threads);
  shape.shared_bytes =
      sample == Sample::kSharedOverrun ? threads * sizeof(float) : 0;
  return Launch(kKernels[static_cast<int>(sample)], shape, stream, launch);
}

}  // namespace sentencekv
