#include "tests/support/cuda_sim/fiber_exec.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <array>
#include <boost/context/detail/fcontext.hpp>
#include <cstring>
#include <numeric>

#include "tests/support/cuda_sim/access_check.h"
#include "tests/support/cuda_sim/fiber_state.h"
#include "tests/support/cuda_sim/report.h"
#include "tests/support/cuda_sim/stack_switch.h"

// Declared const for the code of a thread; these are theirs.
uint3 threadIdx;
uint3 blockIdx;
uint3 blockDim;
uint3 gridDim;

namespace cuda_sim {

constinit thread_local RunningThread* running_thread = nullptr;

namespace {

using boost::context::detail::fcontext_t;
using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

constexpr int kMaxThreads = 1024;

Stack StackOf(int thread) {
  return {E().stacks + thread * kStackBytes, kStackBytes};
}

// Leaves a fibre for the scheduler, for good.
[[noreturn]] void EndFiber() {
  BeforeSwitch(E().scheduler_stack, nullptr);
  jump_fcontext(E().scheduler, nullptr);
  __builtin_unreachable();
}

}  // namespace

Executor::Executor() {
  stacks = static_cast<std::byte*>(
      mmap(nullptr, kMaxThreads * kStackBytes, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  // The last page of each stack is a guard: it grows down to it.
  for (int i = 0; i < kMaxThreads; ++i) {
    mprotect(stacks + i * kStackBytes, 4096, PROT_NONE);
  }
}

Executor& E() {
  static Executor executor;
  return executor;
}

std::string Waiting(const Fiber& fiber) {
  return fmt::format("thread {} waits in {} ({})", fiber.number, fiber.waits_in,
                     Text(fiber.waits_at));
}

void Wait(const char* name, Place place) {
  Fiber* self = E().running;
  self->waits_in = name;
  self->waits_at = place;
  void* kept = nullptr;
  BeforeSwitch(E().scheduler_stack, &kept);
  const transfer_t back = jump_fcontext(E().scheduler, nullptr);
  AfterSwitch(kept);
  E().scheduler = back.fctx;
}

void MakeReady(Fiber* fiber) {
  fiber->waits_in = nullptr;
  E().ready.push_back(fiber);
}

namespace {

void ReturnFromThread(Fiber* self) {
  Executor& e = E();
  if (e.first_to_arrive != nullptr) {
    FailThread(Finding::kBarrierDivergence,
               "returns while " + Waiting(*e.first_to_arrive));
  }
  Warp& warp = e.warps[self->number / 32];
  const unsigned bit = 1u << (self->number % 32);
  for (const Collective& open : warp.open) {
    if ((open.mask & bit) != 0) {
      FailThread(Finding::kWarpDivergence,
                 fmt::format("returns while other lanes wait for it in {} ({})",
                             open.name, Text(open.place)));
    }
  }
  warp.returned |= bit;
  ++e.num_returned;
}

void RunFiber(transfer_t from) {
  E().scheduler_stack = AfterSwitch(nullptr);
  E().scheduler = from.fctx;
  auto* self = static_cast<Fiber*>(from.data);
  running_thread = &self->thread;
  E().launch->run_thread(E().launch->call);
  running_thread = nullptr;
  ReturnFromThread(self);
  EndFiber();
}

void PrepareBlock(const KernelLaunch& launch, int64_t block) {
  Executor& e = E();
  e.fibers.resize(kMaxThreads);
  e.warps.assign((e.num_threads + 31) / 32, Warp());
  e.ready.clear();
  e.num_returned = e.num_arrived = e.votes = 0;
  e.first_to_arrive = nullptr;
  for (int i = 0; i < e.num_threads; ++i) {
    Fiber& fiber = e.fibers[i];
    std::byte* stack = E().stacks + i * kStackBytes;
    fiber = Fiber();
    fiber.number = i;
    fiber.index = {i % launch.block.x, i / launch.block.x % launch.block.y,
                   i / launch.block.x / launch.block.y};
    fiber.thread.stamp.kind = Stamp::kThread;
    fiber.thread.stamp.block = static_cast<uint64_t>(block);
    fiber.thread.stamp.thread = static_cast<uint64_t>(i);
    fiber.thread.stack_begin = reinterpret_cast<uintptr_t>(stack);
    fiber.context = make_fcontext(stack + kStackBytes, kStackBytes, &RunFiber);
    e.warps[i / 32].exists |= 1u << (i % 32);
    e.ready.push_back(&fiber);
  }
  blockIdx.x = static_cast<unsigned>(block % launch.grid.x);
  blockIdx.y = static_cast<unsigned>(block / launch.grid.x % launch.grid.y);
  blockIdx.z = static_cast<unsigned>(block / launch.grid.x / launch.grid.y);
}

void ReportStuck() {
  Finding finding = Finding::kWarpDivergence;
  std::string text = "no thread can go on:";
  int named = 0;
  const char* last_name = nullptr;
  for (int i = 0; i < E().num_threads; ++i) {
    const Fiber& fiber = E().fibers[i];
    if (fiber.waits_in == nullptr) continue;
    if (std::strncmp(fiber.waits_in, "__syncthreads", 13) == 0) {
      finding = Finding::kBarrierDivergence;
    }
    // The first of those who wait in the same place stands for them.
    if (fiber.waits_in == last_name || ++named > 4) continue;
    last_name = fiber.waits_in;
    text += " " + Waiting(fiber) + ";";
  }
  AddReport(finding, FunctionName(E().launch->kernel) + ": " + text);
  E().has_failed = true;
}

// All threads of one block, to their end or the first finding.
void RunBlock(Random* random) {
  Executor& e = E();
  while (!e.ready.empty()) {
    std::swap(e.ready[random->Below(e.ready.size())], e.ready.back());
    Fiber* fiber = e.ready.back();
    e.ready.pop_back();
    e.running = fiber;
    threadIdx = fiber->index;
    void* kept = nullptr;
    BeforeSwitch(StackOf(fiber->number), &kept);
    const transfer_t back = jump_fcontext(fiber->context, fiber);
    AfterSwitch(kept);
    fiber->context = back.fctx;
    running_thread = nullptr;
    if (e.has_failed) return;
  }
  if (e.num_returned < e.num_threads) ReportStuck();
}

}  // namespace

void RunKernel(const KernelLaunch& launch, Random* random) {
  Executor& e = E();
  e.launch = &launch;
  if (e.has_failed) ForgetFrames({e.stacks, kMaxThreads * kStackBytes});
  e.has_failed = false;
  e.num_threads =
      static_cast<int>(launch.block.x * launch.block.y * launch.block.z);
  gridDim = {launch.grid.x, launch.grid.y, launch.grid.z};
  blockDim = {launch.block.x, launch.block.y, launch.block.z};
  std::vector<int64_t> blocks(int64_t{1} * launch.grid.x * launch.grid.y *
                              launch.grid.z);
  std::iota(blocks.begin(), blocks.end(), 0);
  random->Shuffle(&blocks);
  BeginLaunchChecks();
  for (int64_t block : blocks) {
    PrepareBlock(launch, block);
    BeginBlockChecks(launch.shared_bytes);
    RunBlock(random);
    if (e.has_failed) return;
  }
}

bool IsThreadStack(uintptr_t address) {
  return address - reinterpret_cast<uintptr_t>(E().stacks) <
         kMaxThreads * kStackBytes;
}

void FailThread(Finding finding, const std::string& text) {
  running_thread = nullptr;
  Executor& e = E();
  AddReport(finding,
            fmt::format("{}: thread {} of block ({}, {}, {}) {}",
                        FunctionName(e.launch->kernel), e.running->number,
                        blockIdx.x, blockIdx.y, blockIdx.z, text));
  e.has_failed = true;
  EndFiber();
}

}  // namespace cuda_sim
