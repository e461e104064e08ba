// Where the threads of a block meet: warp collectives and barriers.
#include <fmt/format.h>

#include <cstring>

#include "tests/support/cuda_sim/fiber_state.h"
#include "tests/support/cuda_sim/report.h"

namespace cuda_sim {
namespace {

bool IsSamePlace(Place a, Place b) {
  return a.line == b.line &&
         (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

// A stamp has few bits for each.
constexpr const char* kTooManyBarriers =
    "passes more barriers than the simulation can count";

// The one whose operands are at work.
Collective meeting;

// The open collective that this lane takes part in, a new one if it is first.
Collective* Join(Warp* warp, int lane, const Collective& mine) {
  const unsigned bit = 1u << lane;
  if ((mine.mask & bit) == 0) {
    FailThread(Finding::kWarpDivergence,
               fmt::format("calls {} ({}) with a mask that does not name it",
                           mine.name, Text(mine.place)));
  }
  const unsigned missing = mine.mask & ((~warp->exists) | warp->returned);
  if (missing != 0) {
    FailThread(
        Finding::kWarpDivergence,
        fmt::format("waits in {} ({}) for lane {}, which has returned "
                    "or never was",
                    mine.name, Text(mine.place), __builtin_ctz(missing)));
  }
  for (Collective& open : warp->open) {
    if ((open.mask & mine.mask) == 0) continue;
    const bool is_same = open.mask == mine.mask &&
                         std::strcmp(open.name, mine.name) == 0 &&
                         IsSamePlace(open.place, mine.place);
    if (!is_same || (open.arrived & bit) != 0) {
      FailThread(
          Finding::kWarpDivergence,
          fmt::format("is in {} ({}) with mask {:#x}, and lane {} in {} ({}) "
                      "with mask {:#x}",
                      mine.name, Text(mine.place), mine.mask,
                      __builtin_ctz(open.arrived), open.name, Text(open.place),
                      open.mask));
    }
    return &open;
  }
  warp->open.push_back(mine);
  return &warp->open.back();
}

void MeetLanes(const Collective& mine, void* operand, WarpFunction function) {
  Executor& e = E();
  const int number = e.running->number;
  Warp& warp = e.warps[number / 32];
  Collective* open = Join(&warp, number % 32, mine);
  open->arrived |= 1u << (number % 32);
  open->operands[number % 32] = operand;
  if (open->arrived != open->mask) {
    Wait(mine.name, mine.place);
    return;
  }
  const Collective whole = meeting = *open;
  warp.open.erase(warp.open.begin() + (open - warp.open.data()));
  if (function != nullptr) function(whole.operands);
  // A __syncwarp of all lanes is a barrier of the warp.
  const bool is_barrier = function == nullptr && whole.mask == warp.exists;
  for (int lane = 0; lane < 32; ++lane) {
    if ((whole.mask & (1u << lane)) == 0) continue;
    Fiber& fiber = e.fibers[number / 32 * 32 + lane];
    if (is_barrier && ++fiber.thread.stamp.warp_barriers == 0) {
      FailThread(Finding::kRuntimeMisuse, kTooManyBarriers);
    }
    if (&fiber != e.running) MakeReady(&fiber);
  }
}

}  // namespace

void Misuse(const char* what) {
  FailThread(
      Finding::kWarpDivergence,
      fmt::format("in {} ({}): {}", meeting.name, Text(meeting.place), what));
}

void WarpCollective(const char* name, unsigned mask, void* operand,
                    WarpFunction function, Place place) {
  const SimulatorCode guard;
  Collective mine;
  mine.name = name;
  mine.mask = mask;
  mine.place = place;
  MeetLanes(mine, operand, function);
}

void SyncWarp(unsigned mask, Place place) {
  WarpCollective("__syncwarp", mask, nullptr, nullptr, place);
}

int SyncThreads(const char* name, bool vote, Place place) {
  const SimulatorCode guard;
  Executor& e = E();
  if (e.num_returned > 0) {
    FailThread(Finding::kBarrierDivergence,
               fmt::format("waits in {} ({}) for {} threads that returned",
                           name, Text(place), e.num_returned));
  }
  if (e.first_to_arrive == nullptr) e.first_to_arrive = e.running;
  const Fiber& first = *e.first_to_arrive;
  if (first.waits_in != nullptr && !IsSamePlace(first.waits_at, place)) {
    FailThread(Finding::kBarrierDivergence,
               fmt::format("is in {} ({}), and {}", name, Text(place),
                           Waiting(first)));
  }
  e.votes += vote ? 1 : 0;
  if (++e.num_arrived < e.num_threads) {
    Wait(name, place);
    return e.result;
  }
  e.result = e.votes;
  e.votes = e.num_arrived = 0;
  e.first_to_arrive = nullptr;
  for (int i = 0; i < e.num_threads; ++i) {
    Fiber& fiber = e.fibers[i];
    if (++fiber.thread.stamp.barriers == 0) {
      FailThread(Finding::kRuntimeMisuse, kTooManyBarriers);
    }
    fiber.thread.stamp.warp_barriers = 0;
    if (&fiber != e.running) MakeReady(&fiber);
  }
  return e.result;
}

void ThreadFence(Place) { running_thread->has_fenced = true; }

}  // namespace cuda_sim
