// The block that runs: its threads, and where they wait for each other. For the
// executor's own files.
#pragma once

#include <vector_types.h>

#include <boost/context/detail/fcontext.hpp>
#include <cstddef>
#include <string>
#include <vector>

#include "cuda_sim/fiber_calls.h"
#include "tests/support/cuda_sim/fiber_exec.h"
#include "tests/support/cuda_sim/stack_switch.h"

namespace cuda_sim {

struct Fiber {
  RunningThread thread;
  uint3 index;
  int number = 0;  // in the block
  boost::context::detail::fcontext_t context = nullptr;
  // Where it waits, nullptr while it can run.
  const char* waits_in = nullptr;
  Place waits_at;
};

// A collective that some lanes wait for.
struct Collective {
  const char* name = nullptr;
  unsigned mask = 0;
  Place place;
  unsigned arrived = 0;
  void* operands[32] = {};
};

struct Warp {
  unsigned exists = 0;
  unsigned returned = 0;
  std::vector<Collective> open;
};

struct Executor {
  Executor();

  std::byte* stacks;  // [kMaxThreads][kStackBytes]
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<Fiber*> ready;
  const KernelLaunch* launch = nullptr;
  Fiber* running = nullptr;
  boost::context::detail::fcontext_t scheduler = nullptr;
  Stack scheduler_stack;
  bool has_failed = false;
  int num_threads = 0;
  int num_returned = 0;
  // Of the barrier.
  const Fiber* first_to_arrive = nullptr;
  int num_arrived = 0;
  int votes = 0;
  int result = 0;
};

// The only one.
Executor& E();

// Gives the processor back until the scheduler chooses this thread again.
void Wait(const char* name, Place place);
void MakeReady(Fiber* fiber);
// "thread 3 waits in ..."
std::string Waiting(const Fiber& fiber);

}  // namespace cuda_sim
