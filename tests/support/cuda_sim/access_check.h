// Every load and store of device code comes by here, before it is made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/support/cuda_sim/shadow_memory.h"

namespace cuda_sim {

enum class AccessKind : uint8_t { kRead, kWrite, kAtomic };

// An access by the running thread of `size` bytes, whose address must be a
// multiple of `alignment`. Does not return on a finding.
void CheckAccess(uintptr_t address, size_t size, AccessKind kind,
                 size_t alignment, const void* return_address);

void BeginLaunchChecks();
void BeginBlockChecks(size_t dynamic_shared_bytes);

// What the launch read and wrote outside of shared memory.
std::vector<Interval> LaunchReads();
std::vector<Interval> LaunchWrites();

}  // namespace cuda_sim
