// out[h][p] = sum over the queries at positions >= p of softmax(scale q
// k^T)[p], without keeping the scores: they are computed twice.
//
//   ScoreKernel<kStates>  maximum and sum of each query over a block of 64
//   keys;
//                         a warp has a query, a lane two keys
//   MergeKernel           maximum and 1 / sum of each query over all keys.
//   Grid:
//                         queries x H. Block: 128 threads, stride over the
//                         parts
//   ScoreKernel<kMass>    a thread has a key and adds up the queries in order
//
// ScoreKernel: grid: blocks of 64 keys x H; block: 256 threads; queries go by
// 16 through the keys in shared memory (token_block.h): 64 (D + 4) + 16 D + 64
// x 20 floats, at most 88 KiB. Alignment: K 16 bytes. Limits: D a multiple of 8
// in 8..256, at most 65,535 heads. Source: the exact attention of the prompt's
// end as in SnapKV (arXiv 2404.14469).
#include "kernels/cuda/attention_mass_kernels.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/token_block.h"

namespace sentencekv {
namespace {

static_assert(kMassTileTokens == kBlockTokens);
constexpr int kTogether = 16;  // queries in shared memory
constexpr int kScoreStride = kTogether + 4;
constexpr int kMergeThreads = 128;
constexpr int64_t kMostHeads = 65535;  // they lie along the grid's y

enum class Pass : uint8_t { kStates, kMass };

// Of one query, over some keys. After MergeKernel `sum` is 1 / the sum.
struct State {
  float maximum;
  float sum;
};

__device__ __forceinline__ int64_t NumKeys(const AttentionMassLaunch& launch) {
  return launch.first_position + launch.num_queries;
}
// [queries] of a head, over all keys.
__device__ __forceinline__ State* Totals(const AttentionMassLaunch& launch,
                                         int64_t head) {
  return reinterpret_cast<State*>(launch.workspace) + head * launch.num_queries;
}
// [queries] of a head, over one block of keys.
__device__ __forceinline__ State* Parts(const AttentionMassLaunch& launch,
                                        int64_t head, int64_t block) {
  const int64_t blocks = (NumKeys(launch) + kBlockTokens - 1) / kBlockTokens;
  return Totals(launch, launch.num_heads) +
         (head * blocks + block) * launch.num_queries;
}

// q = up to kTogether queries of a head, times scale and log2(e).
__device__ void LoadQueries(const AttentionMassLaunch& launch, int64_t head,
                            int64_t first, float* q) {
  const auto dim = static_cast<int>(launch.kv.head_dim);
  const float scale = launch.scale * kLog2E;
  for (int i = threadIdx.x; i < kTogether * dim; i += kTokenThreads) {
    const int64_t query = first + i / dim;
    q[i] = query < launch.num_queries
               ? launch.queries[(query * launch.num_heads + head) * dim +
                                i % dim] *
                     scale
               : 0.0f;
  }
}

// The states of up to kTogether queries over the block.
__device__ void WriteStates(const float* scores, int count, int64_t first_seen,
                            State* states) {
  for (int i = WarpId(); i < count; i += kTokenThreads / kWarpSize) {
    // Query i sees keys up to this one of the block.
    const int64_t last = first_seen + i;
    const bool sees_near = LaneId() <= last;
    const bool sees_far = LaneId() + kWarpSize <= last;
    const float near =
        sees_near ? scores[LaneId() * kScoreStride + i] : kLowestScore;
    const float far = sees_far
                          ? scores[(LaneId() + kWarpSize) * kScoreStride + i]
                          : kLowestScore;
    const float maximum = WarpMax(fmaxf(near, far));
    const float sum = WarpSum((sees_near ? exp2f(near - maximum) : 0.0f) +
                              (sees_far ? exp2f(far - maximum) : 0.0f));
    if (LaneId() == 0) states[i] = {maximum, sum};
  }
}

template <typename T, Pass kPass>
__global__ void __launch_bounds__(kTokenThreads)
    ScoreKernel(AttentionMassLaunch launch) {
  const int64_t head_dim = launch.kv.head_dim;
  const int64_t block = blockIdx.x;
  const int64_t head = blockIdx.y;
  const int64_t first_key = block * kBlockTokens;
  const int64_t kv_head = head / (launch.num_heads / launch.kv.num_kv_heads);
  const HeadPages pages = {launch.kv.base + kv_head * launch.kv.head_stride,
                           launch.kv.page_stride, head_dim, launch.pages};
  auto* const tokens = DynamicShared<float>();
  float* const q = tokens + kBlockTokens * TokenStride(head_dim);
  float* const scores = q + kTogether * head_dim;
  LoadTokens<T>(pages, KvHalf::kKeys, block,
                LowBits(NumKeys(launch) - first_key), tokens);
  const int64_t key = first_key + threadIdx.x;
  float mass = 0;  // of this thread's key
  for (int64_t first = 0; first < launch.num_queries; first += kTogether) {
    const int64_t left = launch.num_queries - first;
    const int count = left < kTogether ? static_cast<int>(left) : kTogether;
    LoadQueries(launch, head, first, q);
    __syncthreads();  // also: the readers of the scores before are done
    ScoreTokens<4>(tokens, q, head_dim, count, scores, kScoreStride);
    __syncthreads();
    const int64_t position = launch.first_position + first;
    if constexpr (kPass == Pass::kStates) {
      WriteStates(scores, count, position - first_key,
                  Parts(launch, head, block) + first);
    } else if (threadIdx.x < kBlockTokens) {
      const State* totals = Totals(launch, head) + first;
      const float* score = scores + threadIdx.x * kScoreStride;
      for (int i = 0; i < count; ++i) {
        if (key > position + i) continue;
        mass = fmaf(exp2f(score[i] - totals[i].maximum), totals[i].sum, mass);
      }
    }
  }
  if (kPass == Pass::kMass && threadIdx.x < kBlockTokens &&
      key < NumKeys(launch)) {
    launch.out[head * NumKeys(launch) + key] = mass;
  }
}

__global__ void __launch_bounds__(kMergeThreads)
    MergeKernel(AttentionMassLaunch launch) {
  const int64_t query = blockIdx.x;
  const int64_t head = blockIdx.y;
  const int64_t blocks = (NumKeys(launch) + kBlockTokens - 1) / kBlockTokens;
  float highest = kLowestScore;
  for (int64_t i = threadIdx.x; i < blocks; i += kMergeThreads) {
    highest = fmaxf(highest, Parts(launch, head, i)[query].maximum);
  }
  highest = BlockMax(highest);
  float sum = 0;
  for (int64_t i = threadIdx.x; i < blocks; i += kMergeThreads) {
    const State part = Parts(launch, head, i)[query];
    sum = fmaf(part.sum, exp2f(part.maximum - highest), sum);
  }
  sum = BlockSum(sum);
  if (threadIdx.x == 0) Totals(launch, head)[query] = {highest, 1.0f / sum};
}

template <typename T>
cudaError_t LaunchAs(const AttentionMassLaunch& launch, cudaStream_t stream) {
  const int64_t head_dim = launch.kv.head_dim;
  const auto heads = static_cast<unsigned>(launch.num_heads);
  const int64_t num_keys = launch.first_position + launch.num_queries;
  const LaunchShape shape = {
      dim3(static_cast<unsigned>(CeilDiv(num_keys, kBlockTokens)), heads),
      dim3(kTokenThreads),
      (TokenBlockFloats(head_dim) + kTogether * head_dim +
       kBlockTokens * kScoreStride) *
          sizeof(float)};
  cudaError_t error =
      Launch(ScoreKernel<T, Pass::kStates>, shape, stream, launch);
  if (error != cudaSuccess) return error;
  const dim3 queries(static_cast<unsigned>(launch.num_queries), heads);
  error = Launch(MergeKernel, {queries, dim3(kMergeThreads)}, stream, launch);
  if (error != cudaSuccess) return error;
  return Launch(ScoreKernel<T, Pass::kMass>, shape, stream, launch);
}

}  // namespace

cudaError_t LaunchAttentionMass(const AttentionMassLaunch& launch,
                                cudaStream_t stream) {
  const int64_t head_dim = launch.kv.head_dim;
  if (head_dim < 8 || head_dim > 256 || head_dim % 8 != 0 ||
      launch.num_heads > kMostHeads) {
    return cudaErrorInvalidValue;
  }
  switch (launch.kv.dtype) {
    case DType::kF32:
      return LaunchAs<float>(launch, stream);
    case DType::kF16:
      return LaunchAs<__half>(launch, stream);
    case DType::kBF16:
      return LaunchAs<__nv_bfloat16>(launch, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace sentencekv
