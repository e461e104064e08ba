// What device memory does for rows that choose on the device: the places of
// their slots, where pages lie, and the order of copies and choosing.
// docs/residency.md. Engine thread only.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "cache/cached_sequence.h"
#include "kernels/sentence_chooser.h"

namespace sentencekv {

class ChoosingMemory {
 public:
  virtual ~ChoosingMemory() = default;

  virtual SentenceChooser& chooser() = 0;

  // Before a step: each head of the sequence has at least so many slots,
  // [L][G]. kResourceExhausted where there are no frames for them; none is lent
  // then.
  virtual absl::Status GiveSlots(CachedSequence& sequence,
                                 std::span<const int32_t> num_slots,
                                 ChoosingSequence& there) = 0;
  // Before a step of a row that makes the sequence num_tokens long: the device
  // knows where its pages lie in the pool. Operations issued after the next
  // Ready find them there, but for the page of the row's own token.
  virtual absl::Status TellPages(CachedSequence& sequence, int64_t num_tokens,
                                 ChoosingSequence& there) = 0;
  // Whether so many whole pages can be in use at once, beside slots.
  virtual bool HasRoomFor(int64_t num_pages) const = 0;
  // For an operation of a layer: that page, as a whole. As KvMemory::Bring.
  virtual absl::Status BringLastPage(int64_t layer, CachedSequence& sequence,
                                     int64_t num_tokens,
                                     ChoosingSequence& there) = 0;
  // Of a row of a step that is done.
  virtual void AddCounts(CachedSequence& sequence,
                         const ChoosingCounts& counts) = 0;
};

}  // namespace sentencekv
