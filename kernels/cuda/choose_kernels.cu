// ChooseKernel: a block of 512 threads has a row and KV head. Grid: rows x KV
// heads. One after the other, with barriers between:
//   0. scores, where LaunchScoreRows has left exponents: softmax over the
//      sentences for each query head, their sum, and the prior
//      (kernels/cuda/sentence_scores.h)
//   1. the sentences for the budget (kernels/cuda/sentence_choice.h): commonly
//      three passes over scores and ends, and one warp through some fifty
//      sorted sentences
//   2. the pages of all chosen tokens, and their order
//   3. slots for them (kernels/cuda/slot_placement.h): one pass over the slots;
//      where pages are missing, each thread compares its slots' last use with
//      that of all others
//
// Reads of global memory besides the row and its counts, for S sentences and C
// pages of N slots: 8 S bytes, S / 8 of the last choice, 16 N; 4 C where
// pages may lie on the device as a whole, and 4 for each miss. Writes besides
// the counts: S / 8 + 16 C of the table, 12 C of lists, 16 for each miss.
// Passes after the first find scores and ends in the cache. Making scores of
// exponents reads 12 S bytes for each query head, 4 S of the prior and the
// query, and writes 4 S of scores and the query's sum. For kSign it is done
// twice, and every exponent read and written once more; for each sentence
// whose signs are looked at D + 4 bytes of its deviations and the strips of 2 D
// bytes that its tokens lie in are read.
//
// Shared memory: 16 KiB, 2 bytes a page of the longest sequence, or 4 KiB, 64 D
// bytes and 8 for each query head of a KV head, whichever is most; 8 bytes for
// 32 pages, 1 bit a sentence, 4 KiB for sorting, 12 bytes for each of
// most_chosen pages, 8 for each of most_slots slots. 38 KiB for 131,072 tokens,
// 16,384 sentences, 512 pages and 1,024 slots.
//
// Alignment: tables 16 bytes. Limits: 2^19 sentences, 227 KiB of shared memory.
// Source: the bins are those of cache/sentence_selection.cc.
#include "kernels/cuda/choose_kernels.h"
#include "kernels/cuda/chosen_pages.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_scoring.h"
#include "kernels/cuda/sentence_choice.h"
#include "kernels/cuda/sentence_scores.h"
#include "kernels/cuda/slot_placement.h"

namespace sentencekv {
namespace {

// A bin of neighbouring sentences can be sorted.
static_assert(kMostChoiceSentences <= int64_t{kRankBins} * kMostSorted);

constexpr int kMostSharedBytes = 227 * 1024;
// Of pages, chosen pages and slots: shared memory has no room for as many.
constexpr int64_t kMostRoom = 1 << 20;

// Of a KV head, and the size of each: shared memory has room for as many.
constexpr int64_t kMostHeads = 4096;
constexpr int64_t kMostHeadDim = 256;

// Where the parts of a block's shared memory begin, in bytes.
struct SharedPlan {
  int page_bits;
  int pages_before;
  int chosen;
  int ranks;
  int sorted;
  int page_at;
  int slot_at;
  int free_slots;
  int ages;
  int counts;
  int size_bytes;
};

// First come scoring, the bins, and the pages' tokens, one after the other in
// the same place.
// REQUIRES: no room is more than kMostRoom.
__host__ __device__ SharedPlan PlanShared(const ChooseLaunch& launch) {
  const auto rounded = [](int64_t bytes) {
    return static_cast<int>((bytes + 15) / 16 * 16);
  };
  const int bin_bytes = 2 * kRankBins * sizeof(unsigned);
  const int token_bytes = rounded(2 * launch.most_pages);
  const int scoring_bytes =
      launch.scoring.rows == nullptr
          ? 0
          : rounded(ScoringMemoryBytes(launch.scoring.num_heads,
                                       launch.scoring.head_dim,
                                       kChooseThreads / kWarpSize));
  const int set_bytes = rounded(launch.most_pages / 8);
  const int rank_bytes = kMostSorted * sizeof(uint64_t);
  const int list_bytes = rounded(4 * launch.most_chosen);
  SharedPlan plan;
  plan.page_bits = token_bytes > bin_bytes ? token_bytes : bin_bytes;
  if (scoring_bytes > plan.page_bits) plan.page_bits = scoring_bytes;
  plan.pages_before = plan.page_bits + set_bytes;
  plan.chosen = plan.pages_before + set_bytes;
  plan.ranks = plan.chosen + rounded(launch.most_sentences / 8);
  plan.sorted = plan.ranks + rank_bytes;
  plan.page_at = plan.sorted + rank_bytes;
  plan.slot_at = plan.page_at + list_bytes;
  plan.free_slots = plan.slot_at + list_bytes;
  plan.ages = plan.free_slots + list_bytes;
  plan.counts = plan.ages + rounded(8 * launch.most_slots);
  plan.size_bytes = plan.counts + rounded(sizeof(AddedCounts));
  return plan;
}

template <typename T>
__device__ T* SharedAt(int offset) {
  return reinterpret_cast<T*>(DynamicShared<unsigned char>() + offset);
}

// The choice of one row and KV head.
class Choice {
 public:
  __device__ explicit Choice(const ChooseLaunch& launch)
      : launch_(launch),
        plan_(PlanShared(launch)),
        choice_(blockIdx.x),
        kv_head_(static_cast<int>(choice_ % launch.num_kv_heads)),
        row_(launch.rows[choice_ / launch.num_kv_heads]),
        chosen_(SharedAt<unsigned>(plan_.chosen)),
        counts_(SharedAt<AddedCounts>(plan_.counts)) {}

  __device__ void Run() {
    if (threadIdx.x == 0) *counts_ = {};
    for (int i = threadIdx.x; i < launch_.most_sentences / 32;
         i += kChooseThreads) {
      chosen_[i] = 0;
    }
    __syncthreads();
    int num_pages = 0;
    unsigned flags = 0;
    if (!FitsRoom(launch_, row_)) {
      flags = kRowTooLong;
    } else if (row_.num_tokens > 0) {
      num_pages = ChooseAndPlace(&flags);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      launch_.num_pages[choice_] = num_pages;
      if (num_pages == 0) launch_.num_missing[choice_] = 0;
      WriteCounts(flags);
    }
    if (launch_.tiles == nullptr) return;  // no barrier follows
    for (int64_t i = threadIdx.x; i < launch_.tiles_per_choice;
         i += kChooseThreads) {
      launch_.tiles[choice_ * launch_.tiles_per_choice + i].num_tokens =
          num_pages * kPageTokens;
    }
  }

 private:
  // Gives the length of the list.
  __device__ int ChooseAndPlace(unsigned* flags) {
    const int64_t head = launch_.layer * launch_.num_kv_heads + kv_head_;
    const HeadLimits limits = row_.LimitsOf(head);
    std::byte* const table =
        row_.tables +
        head * HeadTableBytes(launch_.most_slots, launch_.most_sentences);
    auto* const last_choice = reinterpret_cast<uint32_t*>(
        table + launch_.most_slots * sizeof(RunSlot));
    const bool is_whole = row_.is_whole();
    const RankedSentences sentences = {is_whole ? nullptr : Scores(),
                                       row_.ends,
                                       last_choice,
                                       row_.reuse_factor,
                                       row_.num_sentences,
                                       row_.num_sink,
                                       row_.num_tokens - row_.num_recent};
    if (!is_whole) {
      SentenceChoice(sentences,
                     {SharedAt<unsigned>(0), SharedAt<unsigned>(0) + kRankBins,
                      SharedAt<uint64_t>(plan_.ranks),
                      SharedAt<uint64_t>(plan_.sorted), chosen_},
                     limits.budget)
          .Run();
    }

    const int num_pages = (row_.num_tokens + kTokensOfPage - 1) / kTokensOfPage;
    const PageSet pages = {SharedAt<unsigned>(plan_.page_bits),
                           SharedAt<unsigned>(plan_.pages_before)};
    ChosenTokens tokens(SharedAt<unsigned>(0));
    // The open sentence is read whatever its length.
    const int tail =
        is_whole
            ? 0
            : max(min(row_.ends[row_.num_sentences - 1], sentences.end), 0);
    const int sink = min(row_.num_sink, tail);
    tokens.Begin(num_pages, row_.num_tokens, sink, tail);
    tokens.AddSentences(sentences, chosen_);
    const int num_chosen = tokens.List(num_pages, pages);
    if (num_chosen > launch_.most_chosen) {
      *flags = kListTooShort;
      return 0;
    }
    KeepChoice(last_choice);
    SlotPlacement(
        {launch_, row_, choice_, kv_head_, reinterpret_cast<RunSlot*>(table),
         limits.num_slots, WholePages(), tokens, pages, num_chosen},
        {SharedAt<int>(plan_.page_at), SharedAt<int>(plan_.slot_at),
         SharedAt<int>(plan_.free_slots), SharedAt<uint64_t>(plan_.ages),
         counts_})
        .Run();
    return num_chosen;
  }

  // [num_sentences]; of LaunchScoreRows' exponents they are made here.
  __device__ const float* Scores() const {
    if (launch_.scoring.rows == nullptr) {
      return launch_.scores + choice_ * launch_.most_sentences;
    }
    const SentenceScoring scoring = ScoringOf(launch_, choice_);
    FinishScores(scoring,
                 PlanScoring(SharedAt<unsigned char>(0), scoring.num_heads),
                 scoring.exponents);
    __syncthreads();
    return scoring.exponents;
  }

  __device__ const int32_t* WholePages() const {
    return row_.whole_pages == nullptr
               ? nullptr
               : row_.whole_pages + launch_.layer * launch_.most_pages;
  }

  // For the next step's reuse bonus.
  __device__ void KeepChoice(uint32_t* last_choice) {
    AddedCounts counts = {};
    for (int i = threadIdx.x; i * 32 < row_.num_sentences;
         i += kChooseThreads) {
      counts.sentences += __popc(chosen_[i]);
      counts.repeated += __popc(chosen_[i] & last_choice[i]);
      last_choice[i] = chosen_[i];
    }
    AddCounts(counts, counts_);
  }

  // Of one thread.
  __device__ void WriteCounts(unsigned flags) const {
    ChoiceCounts& counts = launch_.counts[choice_];
    counts.sentences += counts_->sentences;
    counts.repeated += counts_->repeated;
    counts.tokens += counts_->tokens;
    counts.hits += counts_->hits;
    counts.misses += counts_->misses;
    counts.evictions += counts_->evictions;
    counts.whole_pages += counts_->whole_pages;
    counts.bytes += counts_->gathered_tokens * launch_.token_bytes;
    counts.flags |= flags | (counts_->without_slot > 0 ? kNoSlotLeft : 0u);
  }

  const ChooseLaunch& launch_;
  const SharedPlan plan_;
  const int64_t choice_;
  const int kv_head_;
  const ChoosingRow& row_;
  unsigned* const chosen_;  // bits of sentences, shared memory
  AddedCounts* const counts_;
};

__global__ void __launch_bounds__(kChooseThreads)
    ChooseKernel(ChooseLaunch launch) {
  Choice(launch).Run();
}

}  // namespace

cudaError_t LaunchChoose(const ChooseLaunch& launch, cudaStream_t stream) {
  if (launch.most_sentences % 32 != 0 ||
      launch.most_sentences > kMostChoiceSentences ||
      launch.most_pages % 32 != 0 || launch.most_pages > kMostRoom ||
      launch.most_chosen > kMostRoom || launch.most_slots > kMostRoom ||
      launch.scoring.num_heads > kMostHeads ||
      launch.scoring.head_dim > kMostHeadDim) {
    return cudaErrorInvalidValue;
  }
  const SharedPlan plan = PlanShared(launch);
  if (plan.size_bytes > kMostSharedBytes) return cudaErrorInvalidValue;
  LaunchShape shape;
  shape.grid =
      dim3(static_cast<unsigned>(launch.num_rows * launch.num_kv_heads));
  shape.block = dim3(kChooseThreads);
  shape.shared_bytes = static_cast<size_t>(plan.size_bytes);
  return Launch(ChooseKernel, shape, stream, launch);
}

}  // namespace sentencekv
