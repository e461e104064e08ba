// The order of blocks that atomics make: a block that finds what another left
// at an address, after a fence, comes after what that one did before.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "tests/support/cuda_sim/stamp.h"

namespace cuda_sim {

class BlockLinks {
 public:
  void BeginLaunch();
  void BeginBlock();

  // `now` does an atomic operation at `address`, having fenced before or not.
  void Atomic(uintptr_t address, Stamp now, bool has_fenced);

  // Whether `earlier`, of another block, was done before `now` began.
  bool IsBefore(Stamp earlier, Stamp now) const;

 private:
  struct Link {
    Stamp released;  // of the other block: what it did before this is done
    Stamp acquired;  // of the block that runs: what it does after this is after
  };

  // What the blocks released at each address.
  std::map<uintptr_t, std::vector<Stamp>> released_;
  // Of the block that runs, by block.
  std::map<uint64_t, Link> links_;
};

}  // namespace cuda_sim
