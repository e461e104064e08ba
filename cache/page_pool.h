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
// Invariants:
//  1. free + promised + referenced = total, after every call.
//  2. A page is in the free list exactly when its reference count is 0.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/memory_preparer.h"
#include "kernels/backend.h"
#include "kernels/kv_layout.h"

namespace sentencekv {

struct PagePoolStats {
  int64_t total = 0;
  int64_t free = 0;
  int64_t used = 0;  // referenced or promised
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
  // Adds a reference to a page that has one.
  void Share(int32_t page);
  // Gives up one reference to each page; a page without references is free.
  // The page released last is taken first: its memory is the warmest.
  void Release(std::span<const int32_t> pages);

  int32_t references(int32_t page) const { return references_[page]; }
  int64_t num_free() const {
    return static_cast<int64_t>(free_.size()) - promised_;
  }
  KvLayerView layer(int64_t layer) const;
  const KvLayout& layout() const { return layout_; }
  PagePoolStats stats() const;

  // Aborts when an invariant is broken. O(pages).
  void CheckInvariantsForTest() const;

 private:
  PagePool(Backend& backend, const KvLayout& layout, Buffer memory);
  absl::Status CheckFree(int64_t count) const;
  void TakeFromStack(int64_t count, std::vector<int32_t>* pages);
  void PublishCount();

  const KvLayout layout_;
  Buffer memory_;
  MemoryPreparer preparer_;
  int32_t highest_taken_ = -1;
  std::vector<int32_t> references_;          // [num_pages]
  std::vector<int32_t> free_;                // stack of page ids
  int64_t promised_ = 0;                     // of them
  std::atomic<int64_t> published_free_ = 0;  // num_free(), for stats()
};

// Pages that hold `num_tokens` tokens.
constexpr int64_t PagesFor(int64_t num_tokens) {
  return (num_tokens + kPageTokens - 1) / kPageTokens;
}

}  // namespace sentencekv
