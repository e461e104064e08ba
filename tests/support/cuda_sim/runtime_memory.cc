#include "tests/support/cuda_sim/runtime_memory.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstring>
#include <map>

#include "tests/support/cuda_sim/report.h"
#include "tests/support/cuda_sim/runtime_graph.h"
#include "tests/support/cuda_sim/runtime_state.h"
#include "tests/support/cuda_sim/runtime_stream.h"

namespace cuda_sim {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kArenaBytes = size_t{1} << 42;

struct Memory {
  std::map<uintptr_t, Region> regions;  // by begin
  std::byte* arena = nullptr;           // [kArenaBytes]
  size_t arena_used = 0;
  size_t device_bytes = size_t{1} << 30;
  int64_t live_device_bytes = 0;
  int64_t live_pinned_bytes = 0;
  int open_count = 0;
  bool is_opened_by_host = false;
  uint64_t generation = 1;  // changes with the regions
};

Memory& M() {
  static Memory memory;
  return memory;
}

void Protect(int protection) {
  if (M().arena_used > 0) mprotect(M().arena, M().arena_used, protection);
}

struct sigaction previous_action;

// The host touched device memory: that is said, and the touch is let through.
void OnFault(int signal, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  if (IsInDeviceArena(address) && M().open_count == 0) {
    const auto* machine = static_cast<ucontext_t*>(context);
    const auto code =
        static_cast<uintptr_t>(machine->uc_mcontext.gregs[REG_RIP]);
    const Region* region = NearestRegion(address);
    AddReport(Finding::kHostTouchedDeviceMemory,
              fmt::format("host code touches {:#x} ({}) at {}", address,
                          region == nullptr ? "nothing" : Told(*region),
                          PlaceOf(reinterpret_cast<void*>(code + 1))));
    M().is_opened_by_host = true;
    Protect(PROT_READ | PROT_WRITE);
    // Beyond what is in use nothing can be let through.
    if (address < reinterpret_cast<uintptr_t>(M().arena) + M().arena_used) {
      return;
    }
  }
  sigaction(signal, &previous_action, nullptr);
}

void MakeArena() {
  if (M().arena != nullptr) return;
  M().arena = static_cast<std::byte*>(
      mmap(nullptr, kArenaBytes, PROT_NONE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  struct sigaction action = {};
  action.sa_sigaction = &OnFault;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, &previous_action);
}

size_t RoundUp(size_t size) { return (size + kPage - 1) / kPage * kPage; }

// Untouched memory of the arena, with a page before and after it.
std::byte* TakeFromArena(size_t size_bytes) {
  MakeArena();
  std::byte* begin = M().arena + M().arena_used + kPage;
  M().arena_used += RoundUp(size_bytes) + 2 * kPage;
  return begin;
}

Region* LiveRegionAt(const void* begin) {
  const auto found = M().regions.find(reinterpret_cast<uintptr_t>(begin));
  return found != M().regions.end() && found->second.is_live ? &found->second
                                                             : nullptr;
}

void AddRegion(void* begin, size_t size_bytes, bool is_device,
               bool is_registered) {
  const auto address = reinterpret_cast<uintptr_t>(begin);
  ++M().generation;
  // The host's own allocator gives addresses again.
  for (auto old = M().regions.lower_bound(address);
       old != M().regions.end() && old->first < address + size_bytes;) {
    old = M().regions.erase(old);
  }
  M().regions[address] = {address, size_bytes, is_device, is_registered, true};
  (is_device ? M().live_device_bytes : M().live_pinned_bytes) +=
      static_cast<int64_t>(size_bytes);
}

void EndRegion(Region* region) {
  region->is_live = false;
  ++M().generation;
  (region->is_device ? M().live_device_bytes : M().live_pinned_bytes) -=
      static_cast<int64_t>(region->size_bytes);
}

}  // namespace

std::string Told(const Region& region) {
  return fmt::format("{} {} bytes from {:#x}",
                     region.is_device       ? "device memory,"
                     : region.is_registered ? "registered host memory,"
                                            : "pinned host memory,",
                     region.size_bytes, region.begin);
}

const Region* NearestRegion(uintptr_t address) {
  const auto above = M().regions.upper_bound(address);
  return above == M().regions.begin() ? nullptr : &std::prev(above)->second;
}

const Region* FindRegion(uintptr_t address) {
  static Region last;  // a live one that was asked for
  static uint64_t of_generation = 0;
  if (of_generation == M().generation &&
      address - last.begin < last.size_bytes) {
    return &last;
  }
  const Region* region = NearestRegion(address);
  if (region == nullptr || address >= region->end()) return nullptr;
  last = *region;
  of_generation = M().generation;
  return region;
}

bool IsInDeviceArena(uintptr_t address) {
  return M().arena != nullptr &&
         address - reinterpret_cast<uintptr_t>(M().arena) < kArenaBytes;
}

bool IsReachable(uintptr_t address, size_t size_bytes) {
  const Region* region = FindRegion(address);
  return region != nullptr && region->is_live &&
         address + size_bytes <= region->end();
}

OpenDeviceMemory::OpenDeviceMemory() {
  if (M().open_count++ == 0) Protect(PROT_READ | PROT_WRITE);
}
OpenDeviceMemory::~OpenDeviceMemory() {
  if (--M().open_count == 0) Protect(PROT_NONE);
}

void CloseAfterHostTouch() {
  if (!M().is_opened_by_host) return;
  M().is_opened_by_host = false;
  if (M().open_count == 0) Protect(PROT_NONE);
}

void ResetMemory(size_t device_bytes) {
  for (auto& [begin, region] : M().regions) {
    if (region.is_live && !region.is_device && !region.is_registered) {
      std::free(reinterpret_cast<void*>(begin));
    }
  }
  if (M().arena != nullptr) {
    madvise(M().arena, M().arena_used, MADV_DONTNEED);
    Protect(PROT_NONE);
  }
  M().regions.clear();
  ++M().generation;
  M().arena_used = 0;
  M().live_device_bytes = M().live_pinned_bytes = 0;
  M().device_bytes = device_bytes;
}

int64_t LiveDeviceBytes() { return M().live_device_bytes; }
int64_t LivePinnedBytes() { return M().live_pinned_bytes; }

}  // namespace cuda_sim

using cuda_sim::M;
using cuda_sim::ReleasingCall;
using cuda_sim::RuntimeCall;

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t size) {
  return RuntimeCall(__func__, [&] {
    if (pointer == nullptr) return cudaErrorInvalidValue;
    *pointer = nullptr;
    if (cuda_sim::IsAnyCapturing()) {
      return cuda_sim::Misused("cudaMalloc while a stream is captured");
    }
    if (size == 0) return cudaSuccess;
    if (M().live_device_bytes + size > M().device_bytes) {
      return cudaErrorMemoryAllocation;
    }
    *pointer = cuda_sim::TakeFromArena(size);
    cuda_sim::AddRegion(*pointer, size, /*is_device=*/true, false);
    const cuda_sim::OpenDeviceMemory open;
    std::memset(*pointer, 0xff, size);
    return cudaSuccess;
  });
}

cudaError_t cudaFree(void* pointer) {
  return ReleasingCall(__func__, [&] {
    if (pointer == nullptr) return cudaSuccess;
    cuda_sim::Region* region = cuda_sim::LiveRegionAt(pointer);
    if (region == nullptr || !region->is_device) {
      return cuda_sim::Misused("cudaFree of what cudaMalloc did not give");
    }
    // As on a GPU: everything that was submitted runs first.
    cuda_sim::SynchronizeAll();
    madvise(pointer, cuda_sim::RoundUp(region->size_bytes), MADV_DONTNEED);
    cuda_sim::EndRegion(region);
    return cudaSuccess;
  });
}

cudaError_t cudaHostAlloc(void** pointer, size_t size, unsigned) {
  return RuntimeCall(__func__, [&] {
    if (pointer == nullptr || size == 0) return cudaErrorInvalidValue;
    *pointer = std::aligned_alloc(cuda_sim::kPage, cuda_sim::RoundUp(size));
    std::memset(*pointer, 0xff, size);
    cuda_sim::AddRegion(*pointer, size, /*is_device=*/false, false);
    return cudaSuccess;
  });
}

cudaError_t cudaMallocHost(void** pointer, size_t size) {
  return cudaHostAlloc(pointer, size, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void* pointer) {
  return ReleasingCall(__func__, [&] {
    if (pointer == nullptr) return cudaSuccess;
    cuda_sim::Region* region = cuda_sim::LiveRegionAt(pointer);
    if (region == nullptr || region->is_device || region->is_registered) {
      return cuda_sim::Misused("cudaFreeHost of what is not pinned memory");
    }
    cuda_sim::SynchronizeAll();
    cuda_sim::EndRegion(region);
    std::free(pointer);
    return cudaSuccess;
  });
}

cudaError_t cudaHostRegister(void* pointer, size_t size, unsigned) {
  return RuntimeCall(__func__, [&] {
    if (pointer == nullptr || size == 0) return cudaErrorInvalidValue;
    const auto begin = reinterpret_cast<uintptr_t>(pointer);
    const cuda_sim::Region* below = cuda_sim::NearestRegion(begin + size - 1);
    if (below != nullptr && below->is_live && below->end() > begin) {
      return cudaErrorHostMemoryAlreadyRegistered;
    }
    cuda_sim::AddRegion(pointer, size, /*is_device=*/false, true);
    return cudaSuccess;
  });
}

cudaError_t cudaHostUnregister(void* pointer) {
  return ReleasingCall(__func__, [&] {
    cuda_sim::Region* region = cuda_sim::LiveRegionAt(pointer);
    if (region == nullptr || !region->is_registered) {
      return cudaErrorHostMemoryNotRegistered;
    }
    cuda_sim::SynchronizeAll();
    cuda_sim::EndRegion(region);
    return cudaSuccess;
  });
}

cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  return RuntimeCall(__func__, [&] {
    if (!cuda_sim::IsReachable(reinterpret_cast<uintptr_t>(host), 1)) {
      return cudaErrorInvalidValue;
    }
    *device = host;
    return cudaSuccess;
  });
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  return RuntimeCall(__func__, [&] {
    *total_bytes = M().device_bytes;
    *free_bytes = M().device_bytes - static_cast<size_t>(M().live_device_bytes);
    return cudaSuccess;
  });
}

}  // extern "C"
