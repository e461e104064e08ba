#include "tests/support/cuda_sim/runtime_memory.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstring>
#include <map>

#include "tests/support/cuda_sim/report.h"

namespace cuda_sim {
namespace {

constexpr size_t kArenaBytes = size_t{1} << 42;
struct Memory {
  std::map<uintptr_t, Region> regions;  // by begin
  std::map<uintptr_t, Region> blocks;   // of divided regions
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

// Those that overlap [begin, end).
void EraseRegions(std::map<uintptr_t, Region>* regions, uintptr_t begin,
                  uintptr_t end) {
  auto region = regions->lower_bound(begin);
  while (region != regions->end() && region->first < end) {
    region = regions->erase(region);
  }
}

const Region* NearestOf(const std::map<uintptr_t, Region>& regions,
                        uintptr_t address) {
  const auto above = regions.upper_bound(address);
  return above == regions.begin() ? nullptr : &std::prev(above)->second;
}

}  // namespace

std::byte* TakeFromArena(size_t size_bytes) {
  MakeArena();
  std::byte* begin = M().arena + M().arena_used + kPage;
  M().arena_used += RoundUpToPage(size_bytes) + 2 * kPage;
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
  EraseRegions(&M().regions, address, address + size_bytes);
  M().regions[address] = {address, size_bytes, is_device, is_registered};
  (is_device ? M().live_device_bytes : M().live_pinned_bytes) +=
      static_cast<int64_t>(size_bytes);
}

void EndRegion(Region* region) {
  region->is_live = region->is_divided = false;
  EraseRegions(&M().blocks, region->begin, region->end());
  ++M().generation;
  (region->is_device ? M().live_device_bytes : M().live_pinned_bytes) -=
      static_cast<int64_t>(region->size_bytes);
}

std::string Told(const Region& region) {
  return fmt::format("{} {} bytes from {:#x}",
                     region.is_device       ? "device memory,"
                     : region.is_registered ? "registered host memory,"
                                            : "pinned host memory,",
                     region.size_bytes, region.begin);
}

const Region* NearestRegion(uintptr_t address) {
  const Region* region = NearestOf(M().regions, address);
  if (region == nullptr || !region->is_divided || address >= region->end()) {
    return region;
  }
  const Region* block = NearestOf(M().blocks, address);
  return block != nullptr && block->begin >= region->begin ? block : region;
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
  // Between the blocks of a divided region there is nothing.
  if (region->is_divided) return nullptr;
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
  M().blocks.clear();
  ++M().generation;
  M().arena_used = 0;
  M().live_device_bytes = M().live_pinned_bytes = 0;
  M().device_bytes = device_bytes;
}

void SetBlock(void* data, size_t size_bytes, bool is_taken) {
  const auto begin = reinterpret_cast<uintptr_t>(data);
  Region* region = &M().regions.at(NearestOf(M().regions, begin)->begin);
  region->is_divided = true;
  EraseRegions(&M().blocks, begin, begin + size_bytes);
  M().blocks[begin] = {.begin = begin,
                       .size_bytes = size_bytes,
                       .is_device = true,
                       .is_live = is_taken};
  ++M().generation;
  if (is_taken) std::memset(data, 0xff, size_bytes);
}

size_t DeviceBytes() { return M().device_bytes; }
int64_t LiveDeviceBytes() { return M().live_device_bytes; }
int64_t LivePinnedBytes() { return M().live_pinned_bytes; }

}  // namespace cuda_sim
