// Where the operations of a backend find K and V.
//
// Every token's K and V lie in the pages of a PagePool, in host memory. Where
// the device uses that memory too, operations read and write it in place, and
// nothing here costs anything. A device with memory of its own works on copies
// of pages; docs/residency.md says which it holds and how they stay in step.
//
// Every use goes the same way:
//   BeginUse, then Bring, BringToWrite and BringChosen for all that one
//   operation needs, then Ready, then the operation, with view() or
//   chosen_view() and the page numbers that were given.
// What was brought stays until the next BeginUse. RunInPieces does all of it.
//
// Prefetch, Ready, Save and CopyPage return the device's errors, and can be
// called again. After an error of
//   Ready or Prefetch: no operation may be issued. The next Ready, of whichever
//     use, makes up for it, unless the sequence has other pages by then.
//   Save: the pool has nothing right of the pages of begin..end-1, which are of
//     this sequence alone. Before the next BeginUse Save is called again or the
//     sequence released.
//   CopyPage: the destination has nothing right.
//
// Engine thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/cached_sequence.h"
#include "cache/choosing_memory.h"
#include "cache/page_pool.h"
#include "cache/sentence_selection.h"
#include "kernels/backend.h"
#include "kernels/kv_layout.h"

namespace sentencekv {

struct KvMemoryOptions {
  // Device memory for K and V, where the backend has memory of its own.
  int64_t device_bytes = 0;
  // Tokens of the longest sequence: one layer of it must fit.
  int64_t max_sequence_tokens = 0;
  // Also where the device could: for tests that compare the two.
  bool host_chooses = false;
};

// What was copied since the start. In place everything is 0.
struct KvTransfers {
  int64_t frames_total = 0;   // pages that device memory holds
  int64_t frames_used = 0;    // now
  int64_t hits = 0;           // pages wanted that were there, by layer
  int64_t misses = 0;         // and that were not
  int64_t chosen_hits = 0;    // runs of a page and KV head that were chosen
  int64_t chosen_misses = 0;  // and there, and not
  int64_t evictions = 0;      // pages and runs that made room
  int64_t bytes_to_device = 0;
  int64_t bytes_to_host = 0;
  double seconds_stalled = 0;  // submitting copies and waiting for them
};

class KvMemory {
 public:
  virtual ~KvMemory() = default;

  // `pool` must outlive the memory. kInvalidArgument with both sizes when
  // device_bytes cannot hold one layer of the longest sequence.
  static absl::StatusOr<std::unique_ptr<KvMemory>> Create(
      PagePool& pool, const KvMemoryOptions& options);

  PagePool& pool() { return pool_; }
  const PagePool& pool() const { return pool_; }
  Backend& backend() { return pool_.backend(); }

  // How operations see a layer: of whole pages, and of single KV heads.
  virtual KvLayerView view(int64_t layer) = 0;
  virtual KvLayerView chosen_view(int64_t layer) = 0;

  virtual void BeginUse() = 0;
  // Positions begin..end-1 of a layer: page numbers for view(), at the index of
  // the page in the sequence. Valid until pages of this sequence and layer are
  // brought again. kResourceExhausted when device memory is full of what is in
  // use.
  virtual absl::StatusOr<const int32_t*> Bring(int64_t layer,
                                               CachedSequence& sequence,
                                               int64_t begin, int64_t end) = 0;
  // The same, for positions that the operation will write.
  virtual absl::StatusOr<const int32_t*> BringToWrite(int64_t layer,
                                                      CachedSequence& sequence,
                                                      int64_t begin,
                                                      int64_t end) = 0;
  // What was chosen in a KV head: page numbers for chosen_view(), in the order
  // of chosen.pages. kResourceExhausted as Bring.
  virtual absl::Status BringChosen(int64_t layer, int64_t kv_head,
                                   CachedSequence& sequence,
                                   const ChosenPages& chosen,
                                   std::vector<int32_t>* numbers) = 0;
  // Has what may be chosen next copied, where there is room, and waits for
  // nothing. After the operation of a use; a hint.
  virtual absl::Status Prefetch(int64_t layer, int64_t kv_head,
                                CachedSequence& sequence,
                                const ChosenPages& chosen) = 0;
  // Operations issued from now on find what was brought.
  virtual absl::Status Ready() = 0;
  // An operation that writes positions begin..end-1 has been issued: the pool
  // gets them.
  virtual absl::Status Save(int64_t layer, CachedSequence& sequence,
                            int64_t begin, int64_t end) = 0;
  // The same in all layers, of the next position of each sequence.
  virtual absl::Status SaveNext(std::span<CachedSequence* const> sequences);
  // PagePool::Copy, of pages that may be on their way to the pool.
  virtual absl::Status CopyPage(int32_t source, int32_t destination) = 0;
  // The sequence gives up what it has on the device. Its pages may be released.
  virtual void Release(CachedSequence& sequence) = 0;

  virtual KvTransfers transfers() const = 0;

  // For rows that choose on the device; null where the host has to choose.
  virtual ChoosingMemory* choosing() { return nullptr; }

 protected:
  explicit KvMemory(PagePool& pool) : pool_(pool) {}

  PagePool& pool_;
};

// A memory of pages that operations reach in place.
std::unique_ptr<KvMemory> MakeInPlaceKvMemory(PagePool& pool);

// Issues an operation on items 0..count-1 in as few pieces as device memory
// holds. bring(i) brings what item i needs; issue(begin, end) issues the
// operation on items begin..end-1.
template <typename BringItem, typename Issue>
absl::Status RunInPieces(KvMemory& memory, int64_t count, BringItem&& bring,
                         Issue&& issue) {
  for (int64_t begin = 0; begin < count;) {
    memory.BeginUse();
    int64_t end = begin;
    absl::Status brought;
    while (end < count && (brought = bring(end)).ok()) ++end;
    if (end == begin || !(brought.ok() || absl::IsResourceExhausted(brought))) {
      return brought;
    }
    if (absl::Status ready = memory.Ready(); !ready.ok()) return ready;
    if (absl::Status issued = issue(begin, end); !issued.ok()) return issued;
    begin = end;
  }
  return absl::OkStatus();
}

}  // namespace sentencekv
