// K and V for a device with memory of its own: docs/residency.md.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "cache/kv_memory.h"
#include "cache/page_pool.h"

namespace sentencekv {

// As KvMemory::Create. REQUIRES: pool.backend().has_own_memory().
absl::StatusOr<std::unique_ptr<KvMemory>> MakeDeviceKvMemory(
    PagePool& pool, const KvMemoryOptions& options);

}  // namespace sentencekv
