// scores[e] = prior_weight prior[e] + sum over the query heads of softmax over
// the entries of x(e), in powers of two, where with c = scale log2(e)
//
//   kMean    x = c q . mean
//   kMinMax  x = c (q . middle + |q| . half)
//   kSign    x = c q . mean + log2 of the sum over the sentence's tokens of
//            2^(sum over d of +- c q[d] deviation[d])
//
// Four kernels, one after the other:
//   BlendKernel    the queries that score, and their sums. Grid: tasks.
//   VectorsKernel  a thread has an entry and four query heads, the sum in the
//                  order of dimensions; 16 lanes read 128 bytes together. Grid:
//                  128 entries x tasks. Shared memory: 4 D floats.
//   SignsKernel    a warp has an entry and four query heads, a lane a token.
//                  Grid: 8 entries x tasks. Shared memory: 32 D floats. Only
//                  where a task is of kSign.
//   SoftmaxKernel  a block has a task. Grid: tasks.
//
// Alignment: blocks 8 bytes, signs 16. Limits: D a multiple of 8 in 8..256, at
// most 65,535 tasks. Sources: SentenceKV (arXiv 2504.00970), Quest (arXiv
// 2406.10774).
#include "kernels/cuda/device.h"
#include "kernels/cuda/entry_block.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sentence_score_kernels.h"
#include "kernels/cuda/token_block.h"

namespace sentencekv {
namespace {

// Query heads that go through an entry together.
constexpr int kHeads = 4;
constexpr int kBlendThreads = 256;
constexpr int kVectorThreads = 128;
constexpr int kSignThreads = 256;
constexpr int kSoftmaxThreads = 512;
constexpr int64_t kMostTasks = 65535;  // they lie along the grid's y

// [heads, D] of a task, as they score.
__device__ __forceinline__ float* QueriesOf(const ScoreSentencesLaunch& launch,
                                            int64_t task) {
  return launch.workspace + task * launch.num_heads * launch.head_dim;
}

// [entries] of a task, for one head; exponents of two.
__device__ __forceinline__ float* ExponentsOf(
    const ScoreSentencesLaunch& launch, const ScoreSentencesTask& task,
    int64_t head) {
  return QueriesOf(launch, launch.num_tasks) + head * launch.sum_entries +
         task.first_score;
}

__device__ __forceinline__ int HeadsFrom(const ScoreSentencesLaunch& launch,
                                         int64_t head) {
  const int64_t left = launch.num_heads - head;
  return left < kHeads ? static_cast<int>(left) : kHeads;
}

__global__ void __launch_bounds__(kBlendThreads)
    BlendKernel(ScoreSentencesLaunch launch) {
  const ScoreSentencesTask task = launch.tasks[blockIdx.x];
  float* const queries = QueriesOf(launch, blockIdx.x);
  const float of_mean = task.blend / static_cast<float>(task.num_summed + 1);
  for (int64_t i = threadIdx.x; i < launch.num_heads * launch.head_dim;
       i += kBlendThreads) {
    float q = task.q[i];
    if (task.query_sum != nullptr) {
      const float before = task.num_summed == 0 ? 0.0f : task.query_sum[i];
      const float sum = before + q;
      task.query_sum[i] = sum;
      q = fmaf(of_mean, sum, (1.0f - task.blend) * q);
    }
    queries[i] = q;
  }
}

// sums[h] += q[h] . entry, or |q[h]| . entry, for kHeads heads of [D].
template <bool kMagnitudes>
__device__ __forceinline__ void AddProducts(const std::byte* vector,
                                            int64_t slot, const float* q,
                                            int64_t head_dim,
                                            float (&sums)[kHeads]) {
  const auto* elements = reinterpret_cast<const int8_t*>(vector);
  for (int64_t d = 0; d < head_dim; d += kEntryRun) {
    const Vector<int8_t, kEntryRun> entry =
        LoadVector<int8_t, kEntryRun>(elements + EntryElement(slot, d));
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
#pragma unroll
      for (int i = 0; i < kEntryRun; i += 4) {
        const Vector<float, 4> x = LoadVector<float>(q + h * head_dim + d + i);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          sums[h] = fmaf(kMagnitudes ? fabsf(x[j]) : x[j],
                         static_cast<float>(entry[i + j]), sums[h]);
        }
      }
    }
  }
}

__global__ void __launch_bounds__(kVectorThreads)
    VectorsKernel(ScoreSentencesLaunch launch) {
  const ScoreSentencesTask task = launch.tasks[blockIdx.y];
  const int64_t head_dim = launch.head_dim;
  const int64_t entry = int64_t{blockIdx.x} * kVectorThreads + threadIdx.x;
  const bool is_there = entry < task.num_entries;
  const int64_t slot = entry % kBlockEntries;
  const std::byte* const vector =
      task.blocks + EntryBlockOffset(task.kind, entry, head_dim);
  const float factor = launch.scale * kLog2E;
  auto* const q = DynamicShared<float>();
  for (int64_t head = 0; head < launch.num_heads; head += kHeads) {
    const int heads = HeadsFrom(launch, head);
    __syncthreads();  // the readers of the heads before are done
    const float* from = QueriesOf(launch, blockIdx.y) + head * head_dim;
    for (int64_t i = threadIdx.x; i < kHeads * head_dim; i += kVectorThreads) {
      q[i] = i < heads * head_dim ? from[i] : 0.0f;
    }
    __syncthreads();
    if (!is_there) continue;
    float sums[kHeads] = {};
    AddProducts<false>(vector, slot, q, head_dim, sums);
    float unit = EntryUnit(vector, slot, head_dim) * factor;
    float exponents[kHeads];
    for (int h = 0; h < kHeads; ++h) exponents[h] = sums[h] * unit;
    if (task.kind == SentenceIndexKind::kMinMax) {
      const std::byte* const half = vector + EntryVectorBytes(head_dim);
      float widths[kHeads] = {};
      AddProducts<true>(half, slot, q, head_dim, widths);
      unit = EntryUnit(half, slot, head_dim) * factor;
      for (int h = 0; h < kHeads; ++h) {
        exponents[h] = fmaf(widths[h], unit, exponents[h]);
      }
    }
    for (int h = 0; h < heads; ++h) {
      ExponentsOf(launch, task, head + h)[entry] = exponents[h];
    }
  }
}

// Logarithm of a sum of powers of two.
struct LogSum {
  float highest = kLowestScore;
  float sum = 0;

  // Adds 2^x of the lanes that have one. All lanes of the warp call.
  __device__ void Add(float x, bool has_one) {
    const float most = fmaxf(highest, WarpMax(has_one ? x : kLowestScore));
    const float added = WarpSum(has_one ? exp2f(x - most) : 0.0f);
    sum = fmaf(sum, exp2f(highest - most), added);
    highest = most;
  }
  __device__ float Get() const { return highest + log2f(sum); }
};

// sums[h] = sum over d of weights[h][d] with the sign of a token.
__device__ __forceinline__ void AddSigned(const std::byte* strip, int token,
                                          const float* weights,
                                          int64_t head_dim,
                                          float (&sums)[kHeads]) {
  const auto* words = reinterpret_cast<const uint16_t*>(strip);
  for (int64_t d = 0; d < head_dim; d += 8) {
    const Vector<uint16_t, 8> above = LoadVector<uint16_t>(words + d);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const bool is_above = (above[i] >> token & 1) != 0;
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        const float weight = weights[h * head_dim + d + i];
        sums[h] += is_above ? weight : -weight;
      }
    }
  }
}

__global__ void __launch_bounds__(kSignThreads)
    SignsKernel(ScoreSentencesLaunch launch) {
  const ScoreSentencesTask task = launch.tasks[blockIdx.y];
  const int64_t head_dim = launch.head_dim;
  const int64_t entry =
      int64_t{blockIdx.x} * (kSignThreads / kWarpSize) + WarpId();
  if (task.kind != SentenceIndexKind::kSign || entry >= task.num_entries) {
    return;  // a whole warp; no barrier of the block follows
  }
  float* const weights = DynamicShared<float>() + WarpId() * kHeads * head_dim;
  const std::byte* const deviation =
      task.blocks + EntryBlockOffset(task.kind, entry, head_dim) +
      EntryVectorBytes(head_dim);
  const int64_t slot = entry % kBlockEntries;
  const float unit =
      EntryUnit(deviation, slot, head_dim) * launch.scale * kLog2E;
  const int64_t begin = entry == 0 ? 0 : task.ends[entry - 1];
  const int64_t end = task.ends[entry];
  for (int64_t head = 0; head < launch.num_heads; head += kHeads) {
    const int heads = HeadsFrom(launch, head);
    const float* q = QueriesOf(launch, blockIdx.y) + head * head_dim;
    __syncwarp();  // the readers of the heads before are done
    for (int64_t d = LaneId(); d < head_dim; d += kWarpSize) {
      const auto element =
          static_cast<int8_t>(deviation[EntryElement(slot, d)]);
      const float width = unit * static_cast<float>(element);
      for (int h = 0; h < kHeads; ++h) {
        weights[h * head_dim + d] = h < heads ? q[h * head_dim + d] * width : 0;
      }
    }
    __syncwarp();
    LogSum logs[kHeads];
    for (int64_t first = begin; first < end; first += kWarpSize) {
      const int64_t position = first + LaneId();
      float sums[kHeads] = {};
      if (position < end) {
        AddSigned(task.signs + position / kPageTokens * StripBytes(head_dim),
                  static_cast<int>(position % kPageTokens), weights, head_dim,
                  sums);
      }
      __syncwarp();
      for (int h = 0; h < kHeads; ++h) logs[h].Add(sums[h], position < end);
    }
    if (LaneId() != 0) continue;
    for (int h = 0; h < heads; ++h) {
      ExponentsOf(launch, task, head + h)[entry] += logs[h].Get();
    }
  }
}

// Exponents become powers; then each entry adds up its shares.
__global__ void __launch_bounds__(kSoftmaxThreads)
    SoftmaxKernel(ScoreSentencesLaunch launch) {
  const ScoreSentencesTask task = launch.tasks[blockIdx.x];
  auto* const inverses = DynamicShared<float>();  // [heads]
  for (int64_t head = 0; head < launch.num_heads; ++head) {
    float* const exponents = ExponentsOf(launch, task, head);
    float highest = -INFINITY;
    for (int64_t e = threadIdx.x; e < task.num_entries; e += kSoftmaxThreads) {
      highest = fmaxf(highest, exponents[e]);
    }
    highest = BlockMax(highest);
    float sum = 0;
    for (int64_t e = threadIdx.x; e < task.num_entries; e += kSoftmaxThreads) {
      const float power = exp2f(exponents[e] - highest);
      exponents[e] = power;
      sum += power;
    }
    sum = BlockSum(sum);
    if (threadIdx.x == 0) inverses[head] = 1.0f / sum;
  }
  __syncthreads();
  for (int64_t e = threadIdx.x; e < task.num_entries; e += kSoftmaxThreads) {
    float total =
        task.prior != nullptr ? task.prior_weight * task.prior[e] : 0.0f;
    for (int64_t head = 0; head < launch.num_heads; ++head) {
      total = fmaf(ExponentsOf(launch, task, head)[e], inverses[head], total);
    }
    task.scores[e] = total;
  }
}

}  // namespace

cudaError_t LaunchScoreSentences(const ScoreSentencesLaunch& launch,
                                 cudaStream_t stream) {
  const int64_t head_dim = launch.head_dim;
  if (head_dim < 8 || head_dim > 256 || head_dim % 8 != 0 ||
      launch.num_tasks > kMostTasks) {
    return cudaErrorInvalidValue;
  }
  const auto tasks = static_cast<unsigned>(launch.num_tasks);
  const auto entries_by = [&](int64_t count) {
    return dim3(static_cast<unsigned>(CeilDiv(launch.most_entries, count)),
                tasks);
  };
  const size_t heads_bytes = kHeads * head_dim * sizeof(float);
  cudaError_t error =
      Launch(BlendKernel, {dim3(tasks), dim3(kBlendThreads)}, stream, launch);
  if (error != cudaSuccess) return error;
  error =
      Launch(VectorsKernel,
             {entries_by(kVectorThreads), dim3(kVectorThreads), heads_bytes},
             stream, launch);
  if (error != cudaSuccess) return error;
  if (launch.has_signs) {
    constexpr int kWarps = kSignThreads / kWarpSize;
    error =
        Launch(SignsKernel,
               {entries_by(kWarps), dim3(kSignThreads), kWarps * heads_bytes},
               stream, launch);
    if (error != cudaSuccess) return error;
  }
  return Launch(
      SoftmaxKernel,
      {dim3(tasks), dim3(kSoftmaxThreads), launch.num_heads * sizeof(float)},
      stream, launch);
}

}  // namespace sentencekv
