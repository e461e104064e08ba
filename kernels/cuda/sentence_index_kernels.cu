// The entry of a sentence: mean, or middle and half width of the box, or mean
// and mean absolute deviation of its keys, each rounded to 8 bits in units of
// its largest element / 127; and, for kSign, bit t of a strip's word d: whether
// key t lies above the mean in dimension d. kernels/sentence_block.h says more.
//
// Grid: sentences x KV heads. Block: 128 threads; a thread has pairs of
// neighbouring dimensions, so that a warp reads one token's key at a time and
// sums run over the tokens in order. Shared memory: 2 D floats. Signs of two
// sentences may share a word: they are set atomically, 4 bytes at a time.
//
// Alignment: signs 4 bytes. Limits: D a multiple of 8 in 8..256. Sources:
// SentenceKV (arXiv 2504.00970), Quest (arXiv 2406.10774).
#include "kernels/cuda/device.h"
#include "kernels/cuda/entry_block.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sentence_index_kernels.h"

namespace sentencekv {
namespace {

constexpr int kThreads = 128;
constexpr int64_t kPair = 2;
constexpr int64_t kMostKvHeads = 65535;  // they lie along the grid's y

// The keys of one KV head of a sequence.
template <typename T>
struct SequenceKeys {
  const std::byte* base;  // of page 0
  int64_t page_stride;
  int64_t head_dim;
  const int32_t* pages;  // of position 0

  // Dimensions d and d + 1.
  __device__ Vector<float, 2> At(int64_t position, int64_t d) const {
    const T* page = reinterpret_cast<const T*>(
        base + pages[position / kPageTokens] * page_stride);
    const Vector<T, 2> pair =
        LoadVector<T, 2>(page + position % kPageTokens * head_dim + d);
    return {{ToFloat(pair[0]), ToFloat(pair[1])}};
  }
};

// Calls visit(d) for the pairs of dimensions of this thread.
template <typename Visit>
__device__ __forceinline__ void ForPairs(int64_t head_dim, Visit&& visit) {
  for (int64_t d = threadIdx.x * kPair; d < head_dim; d += kThreads * kPair) {
    visit(d);
  }
}

// Writes values[d] * factor as an entry of a block's vector. A thread reads
// only values of its own pairs.
__device__ void WriteEntryVector(const float* values, float factor,
                                 int64_t head_dim, int64_t slot,
                                 std::byte* vector) {
  float magnitude = 0;
  ForPairs(head_dim, [&](int64_t d) {
    magnitude = fmaxf(magnitude, fmaxf(fabsf(values[d]), fabsf(values[d + 1])));
  });
  const float highest = BlockMax(magnitude);
  const float inverse = highest > 0 ? 127.0f / highest : 0.0f;
  auto* const elements = reinterpret_cast<int8_t*>(vector);
  ForPairs(head_dim, [&](int64_t d) {
    const Vector<int8_t, 2> pair = {
        {static_cast<int8_t>(rintf(values[d] * inverse)),
         static_cast<int8_t>(rintf(values[d + 1] * inverse))}};
    StoreVector(elements + EntryElement(slot, d), pair);
  });
  if (threadIdx.x == 0) {
    auto* const units =
        reinterpret_cast<float*>(vector + head_dim * kBlockEntries);
    units[slot] = highest / 127.0f * factor;
  }
}

template <typename T>
__device__ void SumKeys(const SequenceKeys<T>& keys,
                        const IndexSentenceTask& task, float* sums) {
  ForPairs(keys.head_dim, [&](int64_t d) {
    float first = 0;
    float second = 0;
#pragma unroll 4
    for (int64_t p = task.begin; p < task.end; ++p) {
      const Vector<float, 2> key = keys.At(p, d);
      first += key[0];
      second += key[1];
    }
    sums[d] = first;
    sums[d + 1] = second;
  });
}

// Middle and half width of the box around the keys.
template <typename T>
__device__ void BoundKeys(const SequenceKeys<T>& keys,
                          const IndexSentenceTask& task, float* middle,
                          float* half) {
  ForPairs(keys.head_dim, [&](int64_t d) {
    Vector<float, 2> high = keys.At(task.begin, d);
    Vector<float, 2> low = high;
#pragma unroll 4
    for (int64_t p = task.begin + 1; p < task.end; ++p) {
      const Vector<float, 2> key = keys.At(p, d);
      for (int i = 0; i < 2; ++i) {
        high[i] = fmaxf(high[i], key[i]);
        low[i] = fminf(low[i], key[i]);
      }
    }
    for (int i = 0; i < 2; ++i) {
      middle[d + i] = 0.5f * (high[i] + low[i]);
      half[d + i] = 0.5f * (high[i] - low[i]);
    }
  });
}

// Sets the signs of the keys and adds up their distances from the means.
template <typename T>
__device__ void SignKeys(const SequenceKeys<T>& keys,
                         const IndexSentenceTask& task, const float* means,
                         float* distances, std::byte* signs) {
  ForPairs(keys.head_dim, [&](int64_t d) {
    float sums[2] = {};
    for (int64_t p = task.begin; p < task.end;) {
      const int64_t strip = p / kPageTokens;
      const int64_t of_strip = (strip + 1) * kPageTokens;
      const int64_t end = of_strip < task.end ? of_strip : task.end;
      unsigned above = 0;  // 16 tokens of d, then of d + 1
      for (; p < end; ++p) {
        const Vector<float, 2> key = keys.At(p, d);
        for (int i = 0; i < 2; ++i) {
          const float off = key[i] - means[d + i];
          sums[i] += fabsf(off);
          if (off > 0) above |= 1u << (p % kPageTokens + i * kPageTokens);
        }
      }
      auto* const words = reinterpret_cast<unsigned*>(
          signs + strip * StripBytes(keys.head_dim));
      atomicOr(&words[d / kPair], above);
    }
    distances[d] = sums[0];
    distances[d + 1] = sums[1];
  });
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    IndexKernel(IndexSentencesLaunch launch) {
  const IndexSentenceTask task = launch.tasks[blockIdx.x];
  const int64_t kv_head = blockIdx.y;
  const int64_t head_dim = launch.kv.head_dim;
  const SequenceKeys<T> keys = {
      launch.kv.base + kv_head * launch.kv.head_stride, launch.kv.page_stride,
      head_dim, launch.pages + task.page_begin};
  const bool is_box = task.kind == SentenceIndexKind::kMinMax;
  std::byte* const block = task.blocks + kv_head * task.head_stride +
                           EntryBlockOffset(task.kind, task.entry, head_dim);
  const int64_t slot = task.entry % kBlockEntries;
  const float factor =
      is_box ? 1.0f : 1.0f / static_cast<float>(task.end - task.begin);
  auto* const first = DynamicShared<float>();
  float* const second = first + head_dim;
  if (is_box) {
    BoundKeys(keys, task, first, second);
  } else {
    SumKeys(keys, task, first);
  }
  WriteEntryVector(first, factor, head_dim, slot, block);
  if (task.kind == SentenceIndexKind::kMean) return;
  if (!is_box) {
    ForPairs(head_dim, [&](int64_t d) {
      first[d] *= factor;
      first[d + 1] *= factor;
    });
    SignKeys(keys, task, first, second,
             task.signs + kv_head * task.sign_stride);
  }
  WriteEntryVector(second, factor, head_dim, slot,
                   block + EntryVectorBytes(head_dim));
}

}  // namespace

cudaError_t LaunchIndexSentences(const IndexSentencesLaunch& launch,
                                 cudaStream_t stream) {
  const int64_t head_dim = launch.kv.head_dim;
  if (head_dim < 8 || head_dim > 256 || head_dim % 8 != 0 ||
      launch.kv.num_kv_heads > kMostKvHeads) {
    return cudaErrorInvalidValue;
  }
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>(launch.num_tasks),
                    static_cast<unsigned>(launch.kv.num_kv_heads));
  shape.block = dim3(kThreads);
  shape.shared_bytes = 2 * head_dim * sizeof(float);
  switch (launch.kv.dtype) {
    case DType::kF32:
      return Launch(IndexKernel<float>, shape, stream, launch);
    case DType::kF16:
      return Launch(IndexKernel<__half>, shape, stream, launch);
    case DType::kBF16:
      return Launch(IndexKernel<__nv_bfloat16>, shape, stream, launch);
  }
  return cudaErrorInvalidValue;
}

}  // namespace sentencekv
