// Pages of K and V in host memory, with reference counts.
//
// One allocation, made at start; the layout is kernels/kv_layout.h's. Page
// ids are the same in every layer. Owned and used by the engine thread; only
// stats() may be called from any thread.
//
// Pages may be promised before they are taken. So a long prompt is sure of its
// pages from its admission on, and yet pages are taken in the order in which
// they are written: what is in use lies together, and the memory that is
// prepared ahead is the memory that is used next.
//
// A page may be kept: when nobody references it any more it stays as it is,
// until it is referenced again or its memory is wanted. Then those go first
// whose last reference went first, and the keeper (cache/prefix_cache.h) is
// told.
//
// Invariants, after every call:
//  1. Every page is referenced, idle (kept, without references), or unused.
//  2. No more pages are promised than are idle or unused.
//  So free = idle + unused - promised, and free + promised + referenced =
//  total.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/memory_preparer.h"
#include "kernels/backend.h"
#include "kernels/kv_layout.h"

namespace sentencekv {

struct PagePoolStats {
  int64_t total = 0;
  int64_t free = 0;    // can be taken
  int64_t cached = 0;  // of the free ones, those that are kept
  int64_t used = 0;    // referenced or promised
};

class PagePool {
 public:
  // Allocates layout.total_bytes() from `backend`, which must outlive the pool.
  // kResourceExhausted with the size when that fails, kInvalidArgument with
  // field and value for a size that is not positive or a total that overflows.
  static absl::StatusOr<std::unique_ptr<PagePool>> Create(
      Backend& backend, const KvLayout& layout);

  // Takes `count` pages, each with one reference, and appends them to `pages`.
  // All or nothing: kResourceExhausted with both counts when too few are free.
  absl::Status Take(int64_t count, std::vector<int32_t>* pages);
  // Sets `count` free pages aside. kResourceExhausted, as Take.
  absl::Status Promise(int64_t count);
  // Takes pages that were promised, as Take.
  void TakePromised(int64_t count, std::vector<int32_t>* pages);
  // Frees pages that were promised and not taken.
  void ReleasePromised(int64_t count);
  // Adds a reference to a page that has one or is kept. A kept page without
  // references was free until now: REQUIRES num_free() > 0 for it.
  void Share(int32_t page);
  // Gives up one reference to each page, from the last to the first; a page
  // without references is free. A page that is not kept is taken again before
  // those released earlier: its memory is the warmest.
  void Release(std::span<const int32_t> pages);
  // From now on the page is kept. REQUIRES: it has a reference.
  void Keep(int32_t page);
  // Called from Take, TakePromised and DropIdle with each idle page that is no
  // longer kept. Null: nobody is told.
  void SetKeeper(std::function<void(int32_t page)> on_dropped) {
    on_dropped_ = std::move(on_dropped);
  }
  // Stops keeping the idle pages; says how many there were.
  int64_t DropIdle();
  // Writes the K and V of page `source` to page `destination`, in every layer.
  absl::Status Copy(int32_t source, int32_t destination);

  int32_t references(int32_t page) const { return references_[page]; }
  bool is_kept(int32_t page) const { return is_kept_[page]; }
  // Pages that can be taken, idle ones among them.
  int64_t num_free() const {
    return static_cast<int64_t>(unused_.size() + idle_.size()) - promised_;
  }
  // Idle pages that were given up because their memory was wanted, since start.
  int64_t num_evictions() const { return num_evictions_; }
  Backend& backend() const { return backend_; }
  KvLayerView layer(int64_t layer) const;
  const KvLayout& layout() const { return layout_; }
  PagePoolStats stats() const;

  // Aborts when an invariant is broken. O(pages).
  void CheckInvariantsForTest() const;

 private:
  PagePool(Backend& backend, const KvLayout& layout, Buffer memory);
  absl::Status CheckFree(int64_t count) const;
  void TakeFromStack(int64_t count, std::vector<int32_t>* pages);
  void DropOldestIdle();
  void PublishCounts();

  Backend& backend_;
  const KvLayout layout_;
  Buffer memory_;
  MemoryPreparer preparer_;
  int32_t highest_taken_ = -1;
  std::vector<int32_t> references_;  // [num_pages]
  std::vector<bool> is_kept_;        // [num_pages]
  std::vector<int32_t> unused_;      // stack of page ids
  std::list<int32_t> idle_;          // the one idle for longest first
  std::vector<std::list<int32_t>::iterator> idle_place_;  // of idle pages
  int64_t promised_ = 0;  // of unused and idle ones together
  int64_t num_evictions_ = 0;
  std::function<void(int32_t)> on_dropped_;
  std::atomic<int64_t> published_free_ = 0;    // for stats()
  std::atomic<int64_t> published_cached_ = 0;  // for stats()
};

// Pages that hold `num_tokens` tokens.
constexpr int64_t PagesFor(int64_t num_tokens) {
  return (num_tokens + kPageTokens - 1) / kPageTokens;
}

}  // namespace sentencekv
