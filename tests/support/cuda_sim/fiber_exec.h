// Runs kernels: every thread of a block is a fibre on its own small stack; a
// thread runs until it must wait for others or returns. Blocks run one after
// the other. Orders are drawn from a seed.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda_sim/fiber_calls.h"
#include "tests/support/cuda_sim/cuda_sim.h"
#include "tests/support/cuda_sim/random.h"
#include "tests/support/cuda_sim/stamp.h"

namespace cuda_sim {

struct KernelLaunch {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;
  const void* kernel = nullptr;
  void (*run_thread)(const void* call) = nullptr;
  const void* call = nullptr;
};

// Runs all blocks, or up to the first finding.
void RunKernel(const KernelLaunch& launch, Random* random);

// An asynchronous copy to shared memory that its thread has not waited for.
struct SharedCopy {
  uintptr_t destination;
  size_t size;
  int group;
};

// Also for frames that a sanitizer has made larger; what is not used takes no
// memory.
inline constexpr size_t kStackBytes = 256 * 1024;

// What the access checks know of the thread that runs.
struct RunningThread {
  Stamp stamp;
  uintptr_t stack_begin = 0;
  bool has_fenced = false;
  std::vector<SharedCopy> copies;
  int copy_group = 0;
};
// nullptr outside of kernels, and while code of the simulator runs.
extern constinit thread_local RunningThread* running_thread;

// Whether `address` lies in the stack of any thread of a kernel.
bool IsThreadStack(uintptr_t address);

// Stops the launch; the report says which thread it was.
[[noreturn]] void FailThread(Finding finding, const std::string& text);

// Code of the simulator, called by a thread of a kernel: what it touches is
// not the kernel's doing.
class SimulatorCode {
 public:
  SimulatorCode() : thread_(running_thread) { running_thread = nullptr; }
  ~SimulatorCode() { running_thread = thread_; }
  SimulatorCode(const SimulatorCode&) = delete;
  SimulatorCode& operator=(const SimulatorCode&) = delete;

  RunningThread& thread() const { return *thread_; }

 private:
  RunningThread* thread_;
};

}  // namespace cuda_sim
