// The sentences that a block of threads chooses for one row and KV head: those
// that cache/sentence_selection.h takes one after the other, found without
// sorting all of them. Device code, for .cu files; all threads of the block
// call.
//
// A sentence's rank is its score's bits, made to rise with the score, above its
// number turned upside down: 64 bits, no two the same. Ranks are cut into 2,048
// bins by their first bits; all sentences of the highest bins fit. In the first
// bin that does not fit, the cut, the next bits are looked at in the same way,
// until it has few sentences. Those and some below are sorted, and one warp
// goes through them. Should the budget not be full then, all of it goes on from
// there.
#pragma once

#include <cstdint>

#include "kernels/cuda/block_scan.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/ranked_sentences.h"

namespace sentencekv {

inline constexpr int kRankBins = 2048;
inline constexpr int kRankBinBits = 11;
// Most sentences that are sorted.
inline constexpr int kMostSorted = 256;
// As SentenceSelector has it: after so many in a row that did not fit, no other
// is looked at; and what they have, were they long.
inline constexpr int kMostMisfits = 16;
inline constexpr uint32_t kMisfitTokens = kMostMisfits * 32;

// Where the budget ends among bins.
struct RankCut {
  int bin;             // the highest that does not fit; -1: all fit
  int lowest;          // of the bins that likely fill the budget
  unsigned left;       // of the budget, above the bin
  unsigned num_above;  // sentences in the bins above
  unsigned num_in_bin;
};

// Shared memory of a choice.
struct ChoiceShared {
  unsigned* bin_tokens;     // [kRankBins]
  unsigned* bin_sentences;  // [kRankBins]
  uint64_t* ranks;          // [kMostSorted], in no order
  uint64_t* sorted;         // [kMostSorted], falling
  unsigned* chosen;         // bits: [num_sentences], zeros before Run
};

class SentenceChoice {
 public:
  __device__ SentenceChoice(const RankedSentences& sentences,
                            const ChoiceShared& shared, int budget)
      : sentences_(sentences), shared_(shared), left_(budget) {}

  // Marks the chosen sentences.
  __device__ void Run() {
    while (left_ > 0 && num_misfits_ < kMostMisfits && is_open_) TakeBest();
  }

 private:
  // Ranks from `low` to `high`, both included.
  struct Range {
    uint64_t low;
    uint64_t high;

    __device__ bool Has(uint64_t rank) const {
      return low <= rank && rank <= high;
    }
    __device__ Range Bin(int bin, int shift) const {
      const uint64_t from = low + (static_cast<uint64_t>(bin) << shift);
      const uint64_t to = from + ((uint64_t{1} << shift) - 1);
      return {from, to < high ? to : high};
    }
  };

  // One walk through the best of those that are open.
  __device__ void TakeBest() {
    const Range open = {0, highest_};
    Range range = open;
    int shift = 64 - kRankBinBits;
    RankCut cut = FindCut(range, shift);
    unsigned num_above = cut.num_above;
    left_ = static_cast<int>(cut.left);
    while (cut.num_in_bin > kMostSorted) {
      range = range.Bin(cut.bin, shift);
      shift = NextShift(shift, &range);
      cut = FindCut(range, shift);
      num_above += cut.num_above;
      left_ = static_cast<int>(cut.left);
    }
    if (num_above > 0) num_misfits_ = 0;
    const bool all_fit = cut.bin < 0;
    const Range likely = {all_fit ? 0 : range.Bin(cut.lowest, shift).low,
                          all_fit ? 0 : range.Bin(cut.bin, shift).high};
    const int count = MarkAndList(open, likely, all_fit);
    if (all_fit) {
      is_open_ = false;
      return;
    }
    Sort(count);
    Walk(count);
    is_open_ = likely.low > 0;
    highest_ = likely.low - 1;
  }

  // The bits to be looked at next, of the ranks of a bin. Scores have 32; then
  // come those of the sentences' numbers that differ.
  __device__ int NextShift(int shift, Range* range) const {
    if (shift > 32) return max(shift - kRankBinBits, 32);
    const int num_bits = 32 - __clz(sentences_.num_sentences - 1);
    const int next = max(num_bits - kRankBinBits, 0);
    range->low += (uint64_t{1} << 32) - (uint64_t{kRankBins} << next);
    return next;
  }

  __device__ RankCut FindCut(const Range& range, int shift) {
    CU_SHARED(RankCut, cut, 1);
    for (int i = threadIdx.x; i < kRankBins; i += kChooseThreads) {
      shared_.bin_tokens[i] = shared_.bin_sentences[i] = 0;
    }
    __syncthreads();
    sentences_.ForEach([&](int, uint64_t rank, int cost) {
      if (cost == 0 || !range.Has(rank)) return;
      const auto bin = static_cast<int>((rank - range.low) >> shift);
      atomicAdd(&shared_.bin_tokens[bin], static_cast<unsigned>(cost));
      atomicAdd(&shared_.bin_sentences[bin], 1u);
    });
    __syncthreads();
    // A thread has neighbouring bins, the first thread the highest. Sums have
    // tokens above, sentences below.
    constexpr int kBins = kRankBins / kChooseThreads;
    const int top = kRankBins - 1 - static_cast<int>(threadIdx.x) * kBins;
    const auto in_bin = [&](int i) {
      return uint64_t{shared_.bin_tokens[top - i]} << 32 |
             shared_.bin_sentences[top - i];
    };
    uint64_t sum = 0;
    for (int i = 0; i < kBins; ++i) sum += in_bin(i);
    uint64_t total = 0;
    const uint64_t above = BlockSumBefore(sum, &total);
    const auto left = static_cast<unsigned>(left_);
    if (threadIdx.x == 0 && Tokens(total) <= left) {
      *cut = {-1, 0, left - Tokens(total), Sentences(total), 0};
    }
    uint64_t before = above;
    for (int i = 0; i < kBins; ++i) {
      const uint64_t with = before + in_bin(i);
      if (Tokens(before) <= left && left < Tokens(with)) {
        *cut = {top - i, top - i, left - Tokens(before), Sentences(before),
                Sentences(in_bin(i))};
      }
      before = with;
    }
    __syncthreads();
    // Bins below, while they are likely needed and can be sorted.
    const int bin = cut->bin;
    const unsigned wanted = left + kMisfitTokens;
    const unsigned most = cut->num_above + kMostSorted;
    before = above;
    for (int i = 0; i < kBins && bin >= 0; ++i) {
      const uint64_t with = before + in_bin(i);
      if (top - i < bin && Tokens(before) < wanted && Sentences(with) <= most) {
        atomicMin(&cut->lowest, top - i);
      }
      before = with;
    }
    __syncthreads();
    return *cut;
  }

  // Marks what is open above the likely ranks, or everything, and lists those;
  // gives their number.
  __device__ int MarkAndList(const Range& open, const Range& likely,
                             bool all_fit) {
    CU_SHARED(int, count, 1);
    if (threadIdx.x == 0) *count = 0;
    __syncthreads();
    sentences_.ForEach([&](int sentence, uint64_t rank, int cost) {
      const bool is_open = cost > 0 && rank <= open.high;
      const bool fits = is_open && (all_fit || rank > likely.high);
      const unsigned marks = __ballot_sync(kFullMask, fits);
      if (LaneId() == 0 && marks != 0) shared_.chosen[sentence / 32] |= marks;
      if (is_open && !fits && rank >= likely.low) {
        shared_.ranks[atomicAdd(count, 1)] = rank;
      }
    });
    __syncthreads();
    return *count;
  }

  // A rank's place is the number of higher ones.
  __device__ void Sort(int count) {
    for (int i = threadIdx.x; i < count; i += kChooseThreads) {
      const uint64_t rank = shared_.ranks[i];
      const int place = CountHigher(shared_.ranks, count, rank);
      shared_.sorted[place] = rank;
    }
    __syncthreads();
  }

  // Takes what fits, the best first, until too many in a row do not.
  __device__ void Walk(int count) {
    CU_SHARED(int, results, 2);
    if (WarpId() == 0) {
      for (int first = 0; first < count; first += kWarpSize) {
        if (!WalkThirtyTwo(first, count)) break;
      }
      if (LaneId() == 0) {
        results[0] = left_;
        results[1] = num_misfits_;
      }
    }
    __syncthreads();
    left_ = results[0];
    num_misfits_ = results[1];
    __syncthreads();  // all have read them
  }

  // Of warp 0, a lane for each. False when there is no use in going on.
  __device__ bool WalkThirtyTwo(int first, int count) {
    const int mine = first + LaneId();
    const bool is_there = mine < count;
    const int sentence =
        is_there ? RankedSentences::SentenceOf(shared_.sorted[mine]) : 0;
    const int cost = is_there ? sentences_.Cost(sentence) : 0;
    unsigned open = __ballot_sync(kFullMask, is_there);
    while (open != 0) {
      const unsigned fit = __ballot_sync(kFullMask, cost <= left_) & open;
      const unsigned not_before = fit & (0u - fit);  // the first that fits
      const unsigned before = fit == 0 ? open : open & (not_before - 1);
      num_misfits_ += __popc(before);
      if (num_misfits_ >= kMostMisfits) return false;
      if (fit == 0) return true;
      const int next = __ffs(static_cast<int>(fit)) - 1;
      if (LaneId() == next) {
        atomicOr(&shared_.chosen[sentence / 32], 1u << (sentence % 32));
      }
      num_misfits_ = 0;
      left_ -= __shfl_sync(kFullMask, cost, next);
      if (left_ == 0) return false;
      open &= ~(not_before | (not_before - 1));
    }
    return true;
  }

  __device__ static unsigned Tokens(uint64_t sum) {
    return static_cast<unsigned>(sum >> 32);
  }
  __device__ static unsigned Sentences(uint64_t sum) {
    return static_cast<unsigned>(sum);
  }

  const RankedSentences sentences_;
  const ChoiceShared shared_;
  // The same in all threads.
  int left_;  // of the budget
  int num_misfits_ = 0;
  bool is_open_ = true;  // whether there are sentences not looked at yet:
  uint64_t highest_ = ~uint64_t{0};  // those up to here
};

}  // namespace sentencekv
