#include "cache/chosen_runs.h"

#include <algorithm>

namespace sentencekv {

std::optional<int32_t> ChosenRuns::Find(int32_t page, uint16_t tokens,
                                        uint64_t use) {
  if (static_cast<size_t>(page) >= slot_of_page_.size()) return std::nullopt;
  const int32_t slot = slot_of_page_[static_cast<size_t>(page)];
  if (slot < 0) return std::nullopt;
  Slot& found = slots_[static_cast<size_t>(slot)];
  if ((tokens & ~found.tokens) != 0) return std::nullopt;
  found.last_use = use;
  return slot;
}

std::optional<int32_t> ChosenRuns::Place(int32_t page, uint16_t tokens,
                                         uint64_t use, int64_t num_slots) {
  if (static_cast<size_t>(page) >= slot_of_page_.size()) {
    slot_of_page_.resize(static_cast<size_t>(page) + 1, -1);
  }
  int32_t slot = slot_of_page_[static_cast<size_t>(page)];
  if (slot < 0 && num_used() < num_slots) {
    slot = static_cast<int32_t>(slots_.size());
    slots_.emplace_back();
  }
  if (slot < 0) {
    const auto oldest = std::ranges::min_element(slots_, {}, &Slot::last_use);
    if (oldest == slots_.end() || oldest->last_use == use) return std::nullopt;
    slot_of_page_[static_cast<size_t>(oldest->page)] = -1;
    slot = static_cast<int32_t>(oldest - slots_.begin());
    ++num_evictions_;
  }
  slots_[static_cast<size_t>(slot)] = {page, tokens, use};
  slot_of_page_[static_cast<size_t>(page)] = slot;
  return slot;
}

}  // namespace sentencekv
