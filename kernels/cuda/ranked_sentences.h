// The sentences of a row, put into an order by their scores. Device code, for
// .cu files.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"

namespace sentencekv {

inline constexpr int kChooseThreads = 512;

// How many of `keys`, aligned to 16 bytes, are higher than one.
__device__ __forceinline__ int CountHigher(const uint64_t* keys, int count,
                                           uint64_t key) {
  int higher = 0;
  for (int i = 0; i + 1 < count; i += 2) {
    const Vector<uint64_t, 2> two = LoadVector(keys + i);
    higher += (two[0] > key ? 1 : 0) + (two[1] > key ? 1 : 0);
  }
  if (count % 2 != 0 && keys[count - 1] > key) ++higher;
  return higher;
}

// The sentences of a row with their scores.
struct RankedSentences {
  const float* scores;  // [num_sentences]
  const int32_t* ends;
  const uint32_t* was_chosen;  // bits
  float reuse_factor;
  int num_sentences;
  // What lies before and from there on is attended to anyway.
  int first;
  int end;

  // Tokens that it takes of the budget.
  __device__ int Cost(int sentence) const {
    const int from = sentence == 0 ? 0 : ends[sentence - 1];
    return max(min(ends[sentence], end) - max(from, first), 0);
  }
  // Rises with the score; of equal scores the first sentence's is the highest.
  // No two are the same.
  __device__ uint64_t Rank(int sentence) const {
    float score = scores[sentence];
    if (reuse_factor != 1.0f &&
        (was_chosen[sentence / 32] >> (sentence % 32) & 1) != 0) {
      score *= reuse_factor;
    }
    const unsigned bits = __float_as_uint(score);
    const unsigned rising = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
    return uint64_t{rising} << 32 | ~static_cast<unsigned>(sentence);
  }
  __device__ static int SentenceOf(uint64_t rank) {
    return static_cast<int>(~static_cast<unsigned>(rank));
  }

  // body(sentence, rank, cost), lanes having neighbours; cost is 0 where there
  // is no such sentence.
  template <typename Body>
  __device__ void ForEach(Body&& body) const {
    // Loaded before the first is looked at.
    constexpr int kAhead = 4;
    for (int begin = 0; begin < num_sentences;
         begin += kAhead * kChooseThreads) {
      uint64_t ranks[kAhead] = {};
      int costs[kAhead] = {};
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int sentence = begin + i * kChooseThreads + threadIdx.x;
        if (sentence >= num_sentences) continue;
        ranks[i] = Rank(sentence);
        costs[i] = Cost(sentence);
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        body(static_cast<int>(begin + i * kChooseThreads + threadIdx.x),
             ranks[i], costs[i]);
      }
    }
  }
};

}  // namespace sentencekv
