// What device code asks of the executor. Every call names its place in the
// source, so that a finding can.
#pragma once

#include <cstddef>
#include <cstdint>

// Code of the simulator itself: its accesses are not the kernel's.
#define CUDA_SIM_OWN __attribute__((no_sanitize("thread")))

namespace cuda_sim {

struct Place {
  const char* file;
  int line;
};
constexpr Place Here(const char* file = __builtin_FILE(),
                     int line = __builtin_LINE()) {
  return {file, line};
}

// Called with the operands of the lanes of a warp that take part, null for the
// others.
using WarpFunction = void (*)(void* const (&operands)[32]);

// All lanes of `mask` must call with the same name, mask and place; each leaves
// a pointer to its operand. The last to come runs `function`; then all go on.
void WarpCollective(const char* name, unsigned mask, void* operand,
                    WarpFunction function, Place place);

// __syncwarp, __syncthreads and its kin: the votes of the block are counted.
void SyncWarp(unsigned mask, Place place);
int SyncThreads(const char* name, bool vote, Place place);

void* StaticSharedMemory(size_t size_bytes, const char* file, int line);
void* DynamicSharedMemory();
template <typename T>
CUDA_SIM_OWN T* StaticShared(size_t count, const char* file, int line) {
  return static_cast<T*>(StaticSharedMemory(count * sizeof(T), file, line));
}

// One access of `size` bytes, whose address is a multiple of that.
void LoadBytes(void* value, const void* address, size_t size);
void StoreBytes(void* address, const void* value, size_t size);

// Checks an atomic operation on `size` bytes at `address`; the caller then
// does it. No other thread runs in between.
void CheckAtomic(void* address, size_t size, Place place);
void ThreadFence(Place place);

void CpAsync(void* shared, const void* global, size_t size, bool is_there,
             Place place = Here());
void CpAsyncCommit();
void CpAsyncWait(int newer_groups);

// Ends the launch with a finding.
[[noreturn]] void Misuse(const char* what);

}  // namespace cuda_sim
