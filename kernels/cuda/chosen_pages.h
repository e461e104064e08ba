// The pages of chosen tokens, in shared memory. Device code, for .cu files; all
// kChooseThreads threads of a block call.
#pragma once

#include <cstdint>

#include "kernels/cuda/block_scan.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/ranked_sentences.h"
#include "kernels/kv_layout.h"

namespace sentencekv {

inline constexpr int kTokensOfPage = static_cast<int>(kPageTokens);

// Which of a page's tokens lie at positions begin..end-1.
__device__ __forceinline__ unsigned TokensWithin(int page, int begin, int end) {
  const auto below = [](int count) {
    return (1u << min(max(count, 0), kTokensOfPage)) - 1;
  };
  const int first = page * kTokensOfPage;
  return below(end - first) & ~below(begin - first);
}

// A set of pages, each of which knows how many come before it.
struct PageSet {
  unsigned* bits;    // [pages / 32]
  unsigned* before;  // [pages / 32]: pages of the set before each 32

  // Counts: `bits` are written.
  __device__ int Count(int num_pages) const {
    int sum = 0;
    for (int begin = 0; begin * kWarpSize < num_pages;
         begin += kChooseThreads) {
      const int i = begin + static_cast<int>(threadIdx.x);
      const bool is_there = i * kWarpSize < num_pages;
      uint64_t total = 0;
      const uint64_t mine = BlockSumBefore(
          is_there ? static_cast<unsigned>(__popc(bits[i])) : 0u, &total);
      if (is_there) before[i] = static_cast<unsigned>(sum + mine);
      sum += static_cast<int>(total);
    }
    __syncthreads();
    return sum;
  }
  __device__ bool Has(int page) const {
    return (bits[page / kWarpSize] >> (page % kWarpSize) & 1) != 0;
  }
  __device__ int PlaceOf(int page) const {
    const unsigned lower = (1u << (page % kWarpSize)) - 1;
    return static_cast<int>(before[page / kWarpSize]) +
           __popc(bits[page / kWarpSize] & lower);
  }
};

// Which tokens of each page are chosen.
class ChosenTokens {
 public:
  // `pairs` is [pages / 2], shared memory.
  __device__ explicit ChosenTokens(unsigned* pairs) : pairs_(pairs) {}

  // Tokens of a page; 0: it is not chosen.
  __device__ unsigned Of(int page) const {
    return pairs_[page / 2] >> (page % 2 * kTokensOfPage) & 0xffffu;
  }

  // Positions before `sink` and from `tail` on, and nothing else.
  __device__ void Begin(int num_pages, int num_tokens, int sink, int tail) {
    const auto tokens = [&](int page) {
      return TokensWithin(page, 0, sink) | TokensWithin(page, tail, num_tokens);
    };
    for (int i = threadIdx.x; 2 * i < num_pages; i += kChooseThreads) {
      pairs_[i] = tokens(2 * i) | tokens(2 * i + 1) << kTokensOfPage;
    }
    __syncthreads();
  }

  // Besides, the chosen sentences.
  __device__ void AddSentences(const RankedSentences& sentences,
                               const unsigned* chosen) {
    for (int i = threadIdx.x; i < sentences.num_sentences;
         i += kChooseThreads) {
      if ((chosen[i / 32] >> (i % 32) & 1) == 0) continue;
      Add(i == 0 ? 0 : sentences.ends[i - 1], sentences.ends[i]);
    }
    __syncthreads();
  }

  // The chosen pages as a set; gives their number.
  __device__ int List(int num_pages, const PageSet& set) const {
    for (int first = WarpId() * kWarpSize; first < num_pages;
         first += kChooseThreads) {
      const int page = first + LaneId();
      const unsigned bits =
          __ballot_sync(kFullMask, page < num_pages && Of(page) != 0);
      if (LaneId() == 0) set.bits[first / kWarpSize] = bits;
    }
    __syncthreads();
    return set.Count(num_pages);
  }

 private:
  __device__ void Add(int begin, int end) {
    for (int page = begin / kTokensOfPage; page * kTokensOfPage < end; ++page) {
      atomicOr(&pairs_[page / 2], TokensWithin(page, begin, end)
                                      << (page % 2 * kTokensOfPage));
    }
  }

  unsigned* pairs_;
};

}  // namespace sentencekv
