// Which slots hold the pages of a choice, as cache/chosen_runs.h has it where
// all pages are looked for before any is placed. Device code, for .cu files;
// all kChooseThreads threads of a block call.
//
// A slot that has all the chosen tokens of a page is a hit. One that has the
// page but not all of them keeps what it has and gets the rest. Every other
// page, in rising order, gets the slot unused longest, of equals the first, and
// never one that holds a page of this choice.
#pragma once

#include <cstdint>

#include "kernels/cuda/choose_kernels.h"
#include "kernels/cuda/chosen_pages.h"
#include "kernels/cuda/device.h"

namespace sentencekv {

// In the place of a slot's number.
inline constexpr int kNoSlot = -1;
inline constexpr int kWholePage = -2;  // the page is not in slots
// In the place of a slot's age: it cannot be taken.
inline constexpr uint64_t kNotFree = 0;

// What a choice adds to its ChoiceCounts.
struct AddedCounts {
  unsigned sentences;
  unsigned repeated;
  unsigned tokens;
  unsigned hits;
  unsigned misses;
  unsigned evictions;
  unsigned whole_pages;
  unsigned gathered_tokens;
  unsigned without_slot;  // of the misses
};

// Adds up what the threads of a block have counted: an atomic operation of each
// warp, not of each thread. All lanes of the warp call.
__device__ __forceinline__ void AddCounts(const AddedCounts& mine,
                                          AddedCounts* sum) {
  const auto add = [&](unsigned AddedCounts::*field) {
    const unsigned of_warp = __reduce_add_sync(kFullMask, mine.*field);
    if (LaneId() == 0 && of_warp != 0) atomicAdd(&(sum->*field), of_warp);
  };
  add(&AddedCounts::sentences);
  add(&AddedCounts::repeated);
  add(&AddedCounts::tokens);
  add(&AddedCounts::hits);
  add(&AddedCounts::misses);
  add(&AddedCounts::evictions);
  add(&AddedCounts::whole_pages);
  add(&AddedCounts::gathered_tokens);
  add(&AddedCounts::without_slot);
}

// Shared memory of a placement.
struct PlacementShared {
  int* page_at;     // [most_chosen]: the pages of the choice, rising
  int* slot_at;     // [most_chosen]: their slots
  int* free_slots;  // [most_chosen]: in the order in which they are taken
  uint64_t* ages;   // [most_slots]: the highest is taken first; or kNotFree
  AddedCounts* counts;
};

// One choice, and what the device has of its layer and KV head.
struct PlacementTask {
  const ChooseLaunch& launch;
  const ChoosingRow& row;
  int64_t choice;
  int kv_head;
  RunSlot* slots;  // [num_slots]
  int num_slots;
  const int32_t* whole_pages;  // of the layer, or null
  ChosenTokens tokens;
  PageSet pages;
  int num_pages;  // in the set
};

class SlotPlacement {
 public:
  __device__ SlotPlacement(const PlacementTask& task,
                           const PlacementShared& shared)
      : task_(task), shared_(shared) {}

  // Writes the choice's lists, and the table as it is once they are gathered.
  __device__ void Run() {
    ListPages();
    const int num_free = FindPages();
    GiveSlots(num_free);
    WriteLists();
  }

 private:
  // The run of a page that lies on the device as a whole, else negative.
  __device__ int WholeRun(int page) const {
    const int run = task_.whole_pages == nullptr ? -1 : task_.whole_pages[page];
    return run < 0 ? run : run + task_.kv_head;
  }

  // In one access.
  __device__ RunSlot LoadSlot(int i) const {
    const Vector<uint32_t, 4> slot =
        LoadVector(reinterpret_cast<const uint32_t*>(task_.slots + i));
    return {static_cast<int32_t>(slot[0]), static_cast<int32_t>(slot[1]),
            slot[2], slot[3]};
  }
  __device__ void StoreSlot(int i, const RunSlot& slot) const {
    StoreVector(reinterpret_cast<uint32_t*>(task_.slots + i),
                Vector<uint32_t, 4>{{static_cast<uint32_t>(slot.page),
                                     static_cast<uint32_t>(slot.run),
                                     slot.tokens, slot.last_use}});
  }

  __device__ void ListPages() {
    for (int page = threadIdx.x; page * kTokensOfPage < task_.row.num_tokens;
         page += kChooseThreads) {
      if (!task_.pages.Has(page)) continue;
      const int place = task_.pages.PlaceOf(page);
      shared_.page_at[place] = page;
      shared_.slot_at[place] = WholeRun(page) < 0 ? kNoSlot : kWholePage;
    }
    __syncthreads();
  }

  // Which slots have pages of the choice; gives how many are free for others.
  __device__ int FindPages() {
    uint64_t num_free = 0;
    for (int i = threadIdx.x; i < task_.num_slots; i += kChooseThreads) {
      const RunSlot slot = LoadSlot(i);
      int place = kNoSlot;
      if (slot.last_use != 0 &&
          slot.page * kTokensOfPage < task_.row.num_tokens &&
          task_.pages.Has(slot.page)) {
        place = task_.pages.PlaceOf(slot.page);
      }
      const bool is_wanted =
          place != kNoSlot && shared_.slot_at[place] != kWholePage;
      if (is_wanted) shared_.slot_at[place] = i;
      // Of equals the first is taken.
      shared_.ages[i] =
          is_wanted
              ? kNotFree
              : ~(uint64_t{slot.last_use} << 32 | static_cast<unsigned>(i));
      num_free += is_wanted ? 0 : 1;
    }
    uint64_t total = 0;
    BlockSumBefore(num_free, &total);
    return static_cast<int>(total);
  }

  // Pages without a slot get the free ones, as far as they go.
  __device__ void GiveSlots(int num_free) {
    uint64_t mine = 0;
    for (int i = threadIdx.x; i < task_.num_pages; i += kChooseThreads) {
      mine += shared_.slot_at[i] == kNoSlot ? 1 : 0;
    }
    uint64_t num_new = 0;
    BlockSumBefore(mine, &num_new);
    if (num_new == 0) return;
    const int num_given = min(static_cast<int>(num_new), num_free);
    OrderFreeSlots(num_given);
    int new_before = 0;
    for (int begin = 0; begin < task_.num_pages; begin += kChooseThreads) {
      const int place = begin + static_cast<int>(threadIdx.x);
      const bool is_new =
          place < task_.num_pages && shared_.slot_at[place] == kNoSlot;
      uint64_t total = 0;
      const int order =
          new_before + static_cast<int>(BlockSumBefore(is_new ? 1 : 0, &total));
      new_before += static_cast<int>(total);
      if (is_new && order < num_given) {
        shared_.slot_at[place] = shared_.free_slots[order];
      }
    }
    __syncthreads();
  }

  // Lists the first `count` free slots. A slot's place is the number of those
  // that are taken before it.
  __device__ void OrderFreeSlots(int count) {
    for (int i = threadIdx.x; i < task_.num_slots; i += kChooseThreads) {
      const uint64_t age = shared_.ages[i];
      if (age == kNotFree) continue;
      const int place = CountHigher(shared_.ages, task_.num_slots, age);
      if (place < count) shared_.free_slots[place] = i;
    }
    __syncthreads();
  }

  // Where a page lies, and the tokens it lacks.
  struct Place {
    int run;
    unsigned tokens;
    unsigned fetched;
  };

  // Uses the page at a place of the list: its slot has the tokens from now on.
  __device__ Place Use(int place, AddedCounts* counts) const {
    const int page = shared_.page_at[place];
    const unsigned tokens = task_.tokens.Of(page);
    const int i = shared_.slot_at[place];
    if (i == kWholePage) {
      ++counts->whole_pages;
      return {WholeRun(page), tokens, 0};
    }
    if (i == kNoSlot) {
      ++counts->misses;
      ++counts->without_slot;
      return {0, 0, 0};
    }
    RunSlot slot = LoadSlot(i);
    const bool has_page = slot.last_use != 0 && slot.page == page;
    const unsigned before = has_page ? slot.tokens : 0;
    const unsigned fetched = tokens & ~before;
    ++(fetched == 0 ? counts->hits : counts->misses);
    if (slot.last_use != 0 && !has_page) ++counts->evictions;
    counts->gathered_tokens += __popc(fetched);
    slot.page = page;
    slot.tokens = before | tokens;
    slot.last_use = task_.row.use;
    StoreSlot(i, slot);
    return {slot.run, tokens, fetched};
  }

  __device__ void WriteLists() {
    const ChooseLaunch& launch = task_.launch;
    const int64_t list = task_.choice * launch.most_chosen;
    AddedCounts counts = {};
    int num_missing = 0;
    for (int begin = 0; begin < task_.num_pages; begin += kChooseThreads) {
      const int i = begin + static_cast<int>(threadIdx.x);
      const bool is_there = i < task_.num_pages;
      const Place place = is_there ? Use(i, &counts) : Place{};
      uint64_t total = 0;
      const int missing_before =
          num_missing +
          static_cast<int>(BlockSumBefore(place.fetched != 0 ? 1 : 0, &total));
      num_missing += static_cast<int>(total);
      if (!is_there) continue;
      const int page = shared_.page_at[i];
      launch.pages[list + i] = page;
      launch.runs[list + i] = place.run;
      launch.masks[list + i] = static_cast<uint16_t>(place.tokens);
      launch.fetched[list + i] = static_cast<uint16_t>(place.fetched);
      counts.tokens += __popc(place.tokens);
      if (place.fetched != 0) {
        launch.missing[list + missing_before] = {task_.row.host_pages[page],
                                                 task_.kv_head, place.run,
                                                 place.fetched};
      }
    }
    AddCounts(counts, shared_.counts);
    if (threadIdx.x == 0) launch.num_missing[task_.choice] = num_missing;
  }

  const PlacementTask task_;
  const PlacementShared shared_;
};

}  // namespace sentencekv
