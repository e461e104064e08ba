// Choosing sentences on the device, and where the K and V of the chosen pages
// lie there: what cache/sentence_selection.h and cache/chosen_runs.h say, for a
// step that no host waits for.
//
// One launch a layer. Grid and arguments say nothing about lengths: those are
// read from `rows`, so that a captured launch stays true while texts grow.
//
// Scores are either there, or LaunchScoreRows goes before, and the choice makes
// scores of its exponents: kernels/cuda/score_rows_kernels.h.
//
// For attention_kernels.h the lists are choices: of tile i, `pages` and `masks`
// are `runs` and `masks`, page_begin is choice x most_chosen, and the launch's
// kv has page_stride one run and head_stride 0. The kernel writes the tiles'
// num_tokens. What depends on the length is fixed to the most there can be:
// first_part is i x P, first_state i x P x num_queries, num_parts tiles x P,
// for P = ceil(most_chosen x 16 / 256) partitions; parts behind a tile's end
// find nothing to do, and are not merged.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/score_rows_kernels.h"

namespace sentencekv {

// A place for K and V of one page and KV head. Zeros are an empty slot.
struct alignas(16) RunSlot {
  int32_t page = 0;       // of the sequence
  int32_t run = 0;        // number of the slot's run of K and V; the host's
  uint32_t tokens = 0;    // bit t: token t of the page is there
  uint32_t last_use = 0;  // 0: the slot is empty
};

// What is kept from step to step for one layer and KV head of a sequence:
// RunSlot [most_slots], then a bit for each sentence that the step before
// chose, [most_sentences / 32]. Zeros, but for the runs, are a fresh table.
__host__ __device__ constexpr int64_t HeadTableBytes(int64_t most_slots,
                                                     int64_t most_sentences) {
  return most_slots * static_cast<int64_t>(sizeof(RunSlot)) +
         (most_sentences + 127) / 128 * 16;
}

// What one layer and KV head of a sequence has.
struct HeadLimits {
  int32_t budget = 0;     // tokens
  int32_t num_slots = 0;  // of its table
};

// One row of a decode step, for all layers and KV heads. In device memory; the
// host writes it before the step.
struct ChoosingRow {
  int32_t num_tokens = 0;     // of the sequence, with the row's own; 0: no row
  int32_t num_sentences = 0;  // that have entries
  // SelectionLimits. Up to num_dense tokens, or without any sentence, all
  // tokens are chosen.
  int32_t budget = 0;
  int32_t num_sink = 0;
  int32_t num_recent = 0;
  int32_t num_dense = 0;
  float reuse_factor = 1;  // of scores of what the step before chose
  uint32_t use = 0;        // number of the step: at least 1, and rising
  int32_t num_slots = 0;   // of each table
  // [L][G]: instead of budget and num_slots, which have the request's budget
  // and the most slots of any head. Null: all heads have these.
  const HeadLimits* heads = nullptr;
  const int32_t* ends = nullptr;        // [num_sentences]
  const int32_t* host_pages = nullptr;  // [pages]: numbers in the pool
  // [L][most_pages]: the run of KV head 0 of a page that lies on the device as
  // a whole, its other KV heads behind it; -1: it does not. Null: none does.
  const int32_t* whole_pages = nullptr;
  std::byte* tables = nullptr;  // [L][G] of HeadTableBytes, aligned to 16 bytes

  // Of layer l and KV head g, head = l G + g.
  __host__ __device__ HeadLimits LimitsOf(int64_t head) const {
    return heads == nullptr ? HeadLimits{budget, num_slots} : heads[head];
  }
  // Whether all tokens are chosen, whatever the scores.
  __host__ __device__ bool is_whole() const {
    return num_sentences == 0 || num_tokens <= num_dense;
  }
};

// K and V that a step lacks; kernels/cuda/gather_kernels.h copies them.
struct alignas(16) MissingRun {
  int32_t host_page = 0;
  int32_t kv_head = 0;
  int32_t run = 0;      // where to
  uint32_t tokens = 0;  // bit t: token t
};

// Most sentences that there can be room for.
inline constexpr int64_t kMostChoiceSentences = int64_t{1} << 19;

// What makes the results of a choice useless.
enum ChoiceFlag : uint32_t {
  kRowTooLong = 1,    // for most_sentences, most_pages or most_slots
  kListTooShort = 2,  // more than most_chosen pages were chosen
  kNoSlotLeft = 4,    // all slots hold pages of this step
};

// Sums over the launches since the host wrote zeros.
struct ChoiceCounts {
  int64_t sentences = 0;  // chosen for the budget
  int64_t repeated = 0;   // of those: chosen by the step before too
  int64_t tokens = 0;     // attended to
  int64_t hits = 0;       // pages whose tokens were in a slot
  int64_t misses = 0;
  int64_t evictions = 0;    // pages that made room for others
  int64_t whole_pages = 0;  // neither hit nor miss
  int64_t bytes = 0;        // to be gathered
  // ChoiceFlags that were raised: the step's results are not to be used. A
  // choice that raises one of the first two is empty, and changes no slot;
  // pages without a slot have mask 0.
  int64_t flags = 0;

  ChoiceCounts& operator+=(const ChoiceCounts& more) {
    sentences += more.sentences;
    repeated += more.repeated;
    tokens += more.tokens;
    hits += more.hits;
    misses += more.misses;
    evictions += more.evictions;
    whole_pages += more.whole_pages;
    bytes += more.bytes;
    flags |= more.flags;
    return *this;
  }
};

struct ChooseLaunch {
  const ChoosingRow* rows = nullptr;
  int64_t num_rows = 0;
  int64_t num_kv_heads = 0;
  int64_t layer = 0;
  const float* scores = nullptr;  // [choices][most_sentences], or
  RowScoring scoring;             // what they are made of
  // Room, for every row. A step needs as many slots as it chooses pages; twice
  // as many keep what the steps before have read.
  int64_t most_sentences = 0;  // a multiple of 32
  int64_t most_pages = 0;      // of a sequence, a multiple of 32
  int64_t most_chosen = 0;     // pages of a choice
  int64_t most_slots = 0;
  int64_t token_bytes = 0;  // K and V of one token and KV head

  // Of choice c, that is row c / G and KV head c % G: the pages in rising
  // order, from c x most_chosen on.
  int32_t* num_pages = nullptr;  // [choices]
  int32_t* pages = nullptr;      // of the sequence: page p has positions 16 p..
  int32_t* runs = nullptr;       // where K and V lie
  uint16_t* masks = nullptr;     // bit t: token t is attended to
  uint16_t* fetched = nullptr;   // the tokens that are gathered; 0: a hit
  int32_t* num_missing = nullptr;  // [choices]
  MissingRun* missing = nullptr;   // by rising page, from c x most_chosen on
  ChoiceCounts* counts = nullptr;  // [choices]
  // Null, or [choices][tiles_per_choice].
  QueryTile* tiles = nullptr;
  int64_t tiles_per_choice = 0;
  bool operator==(const ChooseLaunch&) const = default;
};

// cudaErrorInvalidValue for room that is out of range.
cudaError_t LaunchChoose(const ChooseLaunch& launch, cudaStream_t stream);

}  // namespace sentencekv
