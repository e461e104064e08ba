// What device memory holds of one KV head's chosen pages, in one layer of one
// sequence: runs of K and V, those unused longest making room for others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace sentencekv {

// Slots are numbered from 0; what memory each has is the owner's matter.
class ChosenRuns {
 public:
  // The slot that has `tokens` of a page (bit t: token t), used now.
  std::optional<int32_t> Find(int32_t page, uint16_t tokens, uint64_t use);
  // A slot for a page that Find did not find, used now: it will have `tokens`
  // of it. Of `num_slots` slots one with an older copy of the page, else an
  // unused one, else the one unused longest. None when all are used now.
  std::optional<int32_t> Place(int32_t page, uint16_t tokens, uint64_t use,
                               int64_t num_slots);
  // Slots that have a page.
  int64_t num_used() const { return static_cast<int64_t>(slots_.size()); }
  // Pages that made room for others.
  int64_t num_evictions() const { return num_evictions_; }

 private:
  struct Slot {
    int32_t page = -1;
    uint16_t tokens = 0;
    uint64_t last_use = 0;
  };

  std::vector<Slot> slots_;
  std::vector<int32_t> slot_of_page_;  // -1: none
  int64_t num_evictions_ = 0;
};

}  // namespace sentencekv
