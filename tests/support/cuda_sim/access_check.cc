#include "tests/support/cuda_sim/access_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "tests/support/cuda_sim/block_links.h"
#include "tests/support/cuda_sim/fiber_exec.h"
#include "tests/support/cuda_sim/program_image.h"
#include "tests/support/cuda_sim/report.h"
#include "tests/support/cuda_sim/runtime_memory.h"
#include "tests/support/cuda_sim/shared_memory.h"

namespace cuda_sim {
namespace {

struct Checked {
  ShadowMemory global;
  SharedMemory shared;
  BlockLinks links;
};

Checked& C() {
  static Checked checked;
  return checked;
}

// One access, as the report tells it.
struct Access {
  uintptr_t address;
  size_t size;
  AccessKind kind;
  const void* return_address = nullptr;
  Place place = {};

  std::string Told() const {
    constexpr const char* kVerbs[] = {"reads", "writes", "changes atomically"};
    return fmt::format(
        "{} {} bytes at {:#x} ({})", kVerbs[static_cast<int>(kind)], size,
        address,
        return_address != nullptr ? PlaceOf(return_address) : Text(place));
  }
};

[[noreturn]] void FailRace(const Access& access, Stamp other,
                           const char* other_did) {
  const Stamp now = running_thread->stamp;
  std::string who;
  switch (other.kind) {
    case Stamp::kThread:
      who = fmt::format("thread {} of block {}", uint64_t{other.thread},
                        uint64_t{other.block});
      break;
    case Stamp::kWarp:
      who = fmt::format("threads of warp {} of block {}", other.thread / 32u,
                        uint64_t{other.block});
      break;
    case Stamp::kBlock:
      who = fmt::format("threads of block {}", uint64_t{other.block});
      break;
    default:
      who = "several blocks";
  }
  const bool is_in_block =
      other.block == now.block && other.kind != Stamp::kGrid;
  FailThread(is_in_block ? Finding::kThreadRace : Finding::kBlockRace,
             fmt::format("{}, which {} {}, and nothing orders the two",
                         access.Told(), who, other_did));
}

bool IsOrdered(Stamp earlier, Stamp now) {
  if (!earlier || IsBeforeInBlock(earlier, now)) return true;
  return earlier.block != now.block && C().links.IsBefore(earlier, now);
}

// The race rule, for one part of memory.
void CheckCell(Cell* cell, const Access& access) {
  Stamp now = running_thread->stamp;
  if (access.kind == AccessKind::kRead) {
    // A writer since then would have met this reader.
    if (cell->reader == now) return;
    if (!IsOrdered(cell->writer, now)) {
      FailRace(access, cell->writer, "wrote");
    }
    cell->reader =
        IsOrdered(cell->reader, now) ? now : Together(cell->reader, now);
    return;
  }
  now.is_atomic = access.kind == AccessKind::kAtomic;
  const bool is_writer_ordered = IsOrdered(cell->writer, now);
  if (!is_writer_ordered && !(now.is_atomic && cell->writer.is_atomic)) {
    FailRace(access, cell->writer, "wrote");
  }
  if (!IsOrdered(cell->reader, now)) FailRace(access, cell->reader, "read");
  cell->writer = is_writer_ordered ? now : Together(cell->writer, now);
}

void CheckCells(Cell* cells, size_t count, const Access& access) {
  Cell before;
  Cell after;
  for (size_t i = 0; i < count; ++i) {
    // Neighbours mostly have the same story.
    if (i > 0 && cells[i] == before) {
      cells[i] = after;
      continue;
    }
    before = cells[i];
    CheckCell(&cells[i], access);
    after = cells[i];
  }
}

void CheckShared(const Access& access) {
  using State = SharedMemory::State;
  SharedMemory& shared = C().shared;
  bool is_written = true;
  for (uintptr_t at = access.address; at < access.address + access.size; ++at) {
    if (!shared.Contains(at) || shared.state(at) == State::kNoMemory) {
      FailThread(Finding::kOutOfBounds,
                 access.Told() + ", outside of the block's shared memory");
    }
    if (shared.state(at) == State::kInFlight) {
      FailThread(Finding::kUnfinishedCopy,
                 access.Told() + ", where an asynchronous copy is under way");
    }
    is_written &= shared.state(at) == State::kWritten;
    if (access.kind == AccessKind::kWrite) shared.state(at) = State::kWritten;
  }
  if (!is_written && access.kind != AccessKind::kWrite) {
    FailThread(Finding::kUnwrittenShared,
               access.Told() + ", where the block has written nothing");
  }
  size_t count = 0;
  Cell* cells = shared.Cells(access.address, access.size, &count);
  CheckCells(cells, count, access);
}

// Neither shared memory nor a live region holds all of it.
[[noreturn]] void FailOutside(const Access& access) {
  const Region* region = FindRegion(access.address);
  if (region != nullptr && !region->is_live) {
    FailThread(Finding::kUseAfterFree,
               access.Told() + ", which was freed: " + Told(*region));
  }
  if (region == nullptr && !IsInDeviceArena(access.address)) {
    FailThread(Finding::kUnpinnedHostMemory,
               access.Told() + ", which is neither device memory nor pinned");
  }
  if (region == nullptr) region = NearestRegion(access.address);
  FailThread(Finding::kOutOfBounds,
             access.Told() + ", outside of " +
                 (region != nullptr ? Told(*region) : "all memory"));
}

void CheckGlobal(const Access& access) {
  const Region* region = FindRegion(access.address);
  if (region == nullptr || !region->is_live ||
      access.address + access.size > region->end()) {
    FailOutside(access);
  }
  for (uintptr_t at = access.address; at < access.address + access.size;) {
    const size_t left = access.address + access.size - at;
    const size_t in_page =
        ShadowMemory::kPageBytes - at % ShadowMemory::kPageBytes;
    const size_t size = std::min(left, in_page);
    size_t count = 0;
    Cell* cells = C().global.Cells(at, size, &count);
    CheckCells(cells, count, access);
    at += size;
  }
}

void Check(const Access& access) {
  if (C().shared.Contains(access.address)) {
    CheckShared(access);
  } else if (IsThreadStack(access.address)) {
    if (access.address - running_thread->stack_begin >= kStackBytes) {
      FailThread(Finding::kOtherThreadsLocal, access.Told());
    }
  } else if (access.kind != AccessKind::kRead ||
             !IsReadOnlyData(access.address)) {
    CheckGlobal(access);
  }
}

}  // namespace

void BeginLaunchChecks() {
  C().global.Clear();
  C().links.BeginLaunch();
}

void BeginBlockChecks(size_t dynamic_shared_bytes) {
  C().shared.BeginBlock(dynamic_shared_bytes);
  C().links.BeginBlock();
}

std::vector<Interval> LaunchReads() { return C().global.ReadIntervals(); }
std::vector<Interval> LaunchWrites() { return C().global.WrittenIntervals(); }

void CheckAccess(uintptr_t address, size_t size, AccessKind kind,
                 size_t alignment, const void* return_address) {
  const Access access{address, size, kind, return_address};
  if (address % alignment != 0) {
    FailThread(Finding::kMisaligned, fmt::format("{}, not a multiple of {}",
                                                 access.Told(), alignment));
  }
  Check(access);
}

void LoadBytes(void* value, const void* address, size_t size) {
  CheckAccess(reinterpret_cast<uintptr_t>(address), size, AccessKind::kRead,
              size, __builtin_return_address(0));
  std::memcpy(value, address, size);
}

void StoreBytes(void* address, const void* value, size_t size) {
  CheckAccess(reinterpret_cast<uintptr_t>(address), size, AccessKind::kWrite,
              size, __builtin_return_address(0));
  std::memcpy(address, value, size);
}

void CheckAtomic(void* address, size_t size, Place place) {
  const Access access{reinterpret_cast<uintptr_t>(address), size,
                      AccessKind::kAtomic, nullptr, place};
  if (access.address % size != 0) {
    FailThread(Finding::kMisaligned, access.Told());
  }
  Check(access);
  C().links.Atomic(access.address, running_thread->stamp,
                   running_thread->has_fenced);
}

void* StaticSharedMemory(size_t size_bytes, const char* file, int line) {
  void* memory = C().shared.Static(size_bytes, file, line);
  if (memory == nullptr) {
    FailThread(Finding::kOutOfBounds,
               fmt::format("asks for more shared memory than there is: {} "
                           "bytes ({})",
                           size_bytes, Text({file, line})));
  }
  return memory;
}

void* DynamicSharedMemory() { return C().shared.dynamic(); }

// The destination counts as written now, and nobody may touch it until the
// thread has waited: then it is written once more, at that time.
void CpAsync(void* shared, const void* global, size_t size, bool is_there,
             Place place) {
  RunningThread& thread = *running_thread;
  Access write{reinterpret_cast<uintptr_t>(shared), size, AccessKind::kWrite,
               nullptr, place};
  Access read{reinterpret_cast<uintptr_t>(global), size, AccessKind::kRead,
              nullptr, place};
  if (write.address % size != 0 || (is_there && read.address % size != 0)) {
    FailThread(Finding::kMisaligned, "copies asynchronously: " + write.Told());
  }
  if (!C().shared.Contains(write.address)) {
    FailThread(Finding::kOutOfBounds,
               "copies to no shared memory: " + write.Told());
  }
  Check(write);
  if (is_there) {
    Check(read);
    std::memcpy(shared, global, size);
  } else {
    std::memset(shared, 0, size);
  }
  for (size_t i = 0; i < size; ++i) {
    C().shared.state(write.address + i) = SharedMemory::State::kInFlight;
  }
  thread.copies.push_back({write.address, size, thread.copy_group});
}

void CpAsyncCommit() { ++running_thread->copy_group; }

void CpAsyncWait(int newer_groups) {
  RunningThread& thread = *running_thread;
  const int finished = thread.copy_group - newer_groups;
  std::erase_if(thread.copies, [&](const SharedCopy& copy) {
    if (copy.group >= finished) return false;
    size_t count = 0;
    Cell* cells = C().shared.Cells(copy.destination, copy.size, &count);
    for (size_t i = 0; i < count; ++i) cells[i].writer = thread.stamp;
    for (size_t i = 0; i < copy.size; ++i) {
      C().shared.state(copy.destination + i) = SharedMemory::State::kWritten;
    }
    return true;
  });
}

}  // namespace cuda_sim
