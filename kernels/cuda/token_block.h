// A block of 64 keys (or values) of one KV head in shared memory, as f32, and
// its products with queries. Device code, for .cu files; all 256 threads of a
// block call.
//
// A token takes D + 4 floats: neighbouring tokens then begin in different
// banks, so that lanes that each read 16 bytes of another token do not wait for
// each other.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/paged_kv.h"

namespace sentencekv {

inline constexpr int kTokenThreads = 256;
inline constexpr int kBlockTokens = 64;
inline constexpr int kBlockPages = kBlockTokens / static_cast<int>(kPageTokens);
inline constexpr float kLog2E = 1.4426950408889634f;
// Lower than any score, and yet a number: differences of two are too.
inline constexpr float kLowestScore = -1e30f;

__host__ __device__ constexpr int64_t TokenStride(int64_t head_dim) {
  return head_dim + 4;
}
constexpr int64_t TokenBlockFloats(int64_t head_dim) {
  return kBlockTokens * TokenStride(head_dim);
}

// The lowest `count` bits: none where it is negative, all from 64 on.
__device__ __forceinline__ uint64_t LowBits(int64_t count) {
  if (count <= 0) return 0;
  return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
}

// One KV head of a sequence, or of the pages chosen from it.
struct HeadPages {
  const std::byte* base;  // of page 0
  int64_t page_stride;
  int64_t head_dim;
  const int32_t* pages;  // of position 0
};

// Which half of a run is meant.
enum class KvHalf : uint8_t { kKeys, kValues };

// Fills `tokens` with block number `block` of the pages. Of `present` bit t is
// token t of the block; the others become zeros, and their memory is not read.
template <typename T>
__device__ __forceinline__ void LoadTokens(const HeadPages& head, KvHalf half,
                                           int64_t block, uint64_t present,
                                           float* tokens) {
  // A thread has eight dimensions of a token, and asks for several tokens
  // before it waits for the first. Tokens have a power of two of threads: no
  // division.
  constexpr int kAhead = 4;
  constexpr int kAccesses = 8 / kPerAccess<T>;
  const auto dim = static_cast<unsigned>(head.head_dim);
  unsigned shift = 0;
  while ((8u << shift) < dim) ++shift;
  const unsigned d = (threadIdx.x & ((1u << shift) - 1)) * 8;
  if (d >= dim) return;  // no barrier follows
  const int64_t half_elements =
      half == KvHalf::kKeys ? 0 : kPageTokens * head.head_dim;
  const unsigned stride = kTokenThreads >> shift;  // of a thread's tokens
  for (unsigned first = threadIdx.x >> shift; first < kBlockTokens;
       first += kAhead * stride) {
    Vector<T, kPerAccess<T>> loaded[kAhead][kAccesses] = {};
#pragma unroll
    for (unsigned i = 0; i < kAhead; ++i) {
      const unsigned token = first + i * stride;
      if (token >= kBlockTokens || (present >> token & 1) == 0) continue;
      const int64_t page =
          head.pages[block * kBlockPages + token / kPageTokens];
      const T* source =
          reinterpret_cast<const T*>(head.base + page * head.page_stride) +
          half_elements + token % kPageTokens * dim + d;
#pragma unroll
      for (int j = 0; j < kAccesses; ++j) {
        loaded[i][j] = LoadVector<T>(source + j * kPerAccess<T>);
      }
    }
#pragma unroll
    for (unsigned i = 0; i < kAhead; ++i) {
      const unsigned token = first + i * stride;
      if (token >= kBlockTokens) continue;
      float* to = tokens + token * TokenStride(head.head_dim) + d;
#pragma unroll
      for (int j = 0; j < 8; j += 4) {
        Vector<float, 4> four;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          four[k] = ToFloat(
              loaded[i][(j + k) / kPerAccess<T>][(j + k) % kPerAccess<T>]);
        }
        StoreVector(to + j, four);
      }
    }
  }
}

// scores[t][query] = q[query] . token t, the sum in the order of dimensions;
// rows of `q` are [D], those of `scores` `score_stride` apart. A thread has one
// token and kTogether queries; num_queries is rounded up to a multiple of that.
template <int kTogether>
__device__ __forceinline__ void ScoreTokens(const float* tokens, const float* q,
                                            int64_t head_dim, int num_queries,
                                            float* scores, int score_stride) {
  const int groups = (num_queries + kTogether - 1) / kTogether;
  const int dim = static_cast<int>(head_dim);
  for (int index = threadIdx.x; index < groups * kBlockTokens;
       index += kTokenThreads) {
    const int token = index % kBlockTokens;
    const int query = index / kBlockTokens * kTogether;
    const float* key = tokens + token * TokenStride(head_dim);
    float sums[kTogether] = {};
    for (int d = 0; d < dim; d += 4) {
      const Vector<float, 4> k = LoadVector<float>(key + d);
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const Vector<float, 4> x = LoadVector<float>(q + (query + i) * dim + d);
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i] = fmaf(x[j], k[j], sums[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      scores[token * score_stride + query + i] = sums[i];
    }
  }
}

}  // namespace sentencekv
