#include "tests/support/cuda_sim/block_links.h"

namespace cuda_sim {

void BlockLinks::BeginLaunch() {
  released_.clear();
  links_.clear();
}

void BlockLinks::BeginBlock() { links_.clear(); }

void BlockLinks::Atomic(uintptr_t address, Stamp now, bool has_fenced) {
  std::vector<Stamp>& released = released_[address];
  for (const Stamp& other : released) {
    if (other.block != now.block) {
      links_.try_emplace(other.block, Link{other, now});
    }
  }
  if (has_fenced) released.push_back(now);
}

bool BlockLinks::IsBefore(Stamp earlier, Stamp now) const {
  const auto found = links_.find(earlier.block);
  if (found == links_.end() || earlier.kind == Stamp::kGrid) return false;
  const Link& link = found->second;
  const bool is_released = earlier.barriers < link.released.barriers ||
                           (earlier.kind == Stamp::kThread &&
                            earlier.thread == link.released.thread);
  const bool is_acquired = now.barriers > link.acquired.barriers ||
                           now.thread == link.acquired.thread;
  return is_released && is_acquired;
}

}  // namespace cuda_sim
