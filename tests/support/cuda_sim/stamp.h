// Who made an access and when, in 64 bits, and which accesses of a block the
// barriers order.
//
// A time in a block is the number of barriers passed; in a warp, between two
// barriers, the number of __syncwarp of all its lanes. Shuffles order nothing.
#pragma once

#include <cstdint>

namespace cuda_sim {

inline constexpr uint64_t kMaxBlocks = uint64_t{1} << 20;

struct Stamp {
  // Who: one thread, or several that nothing orders.
  enum Kind : uint64_t { kThread = 1, kWarp, kBlock, kGrid };

  uint64_t block : 20 = 0;  // of the grid
  uint64_t thread : 10 = 0;
  uint64_t kind : 3 = 0;  // 0: no access
  uint64_t is_atomic : 1 = 0;
  uint64_t barriers : 14 = 0;
  uint64_t warp_barriers : 16 = 0;

  bool operator==(const Stamp&) const = default;
  explicit operator bool() const { return kind != 0; }
};
static_assert(sizeof(Stamp) == 8);

inline bool IsSameWarp(Stamp a, Stamp b) {
  return a.block == b.block && a.thread / 32 == b.thread / 32;
}

// Whether every thread of `a` was done with it before `b`, one thread's, began.
inline bool IsBeforeInBlock(Stamp a, Stamp b) {
  if (a.block != b.block || a.kind == Stamp::kGrid) return false;
  if (a.barriers < b.barriers) return true;
  if (a.kind == Stamp::kThread && a.thread == b.thread) return true;
  return a.kind != Stamp::kBlock && IsSameWarp(a, b) &&
         a.warp_barriers < b.warp_barriers;
}

// Both, neither of which is before the other: the smallest group that has them.
inline Stamp Together(Stamp a, Stamp b) {
  Stamp both = b;
  both.is_atomic = a.is_atomic & b.is_atomic;
  if (a.block != b.block || a.kind == Stamp::kGrid) {
    both.kind = Stamp::kGrid;
  } else if (a.kind == Stamp::kBlock || !IsSameWarp(a, b)) {
    both.kind = Stamp::kBlock;
  } else if (a.kind == Stamp::kWarp || a.thread != b.thread) {
    both.kind = Stamp::kWarp;
  }
  return both;
}

}  // namespace cuda_sim
