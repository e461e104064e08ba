// How much memory K and V get, of the host and of the device.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "cache/kv_memory.h"
#include "cache/page_pool.h"
#include "engine/model.h"
#include "kernels/kv_layout.h"
#include "server/server_config.h"

namespace sentencekv {

// Host memory for K and V when --kv_host_memory is 0: a quarter of
// `physical_bytes`, but no more than `max_running` requests of
// `context_length` tokens need.
int64_t DefaultKvHostMemory(int64_t physical_bytes, int64_t page_bytes,
                            int64_t context_length, int64_t max_running);

// Device memory for K and V when --kv_device_memory is 0: half of what the
// model leaves free, but no more than the host's pool. A device that does not
// say what is free gets 1 GiB.
int64_t DefaultKvDeviceMemory(std::optional<int64_t> free_bytes,
                              int64_t pool_bytes);

// The pool that `config` asks for. kInvalidArgument with the flag where it
// would be too small to serve anything.
absl::StatusOr<KvLayout> ChooseKvLayout(const ServerConfig& config,
                                        const ModelInfo& info);

// As KvMemory::Create, with the flag that says how large.
absl::StatusOr<std::unique_ptr<KvMemory>> CreateKvMemory(
    const ServerConfig& config, const ModelInfo& info, PagePool& pool);

}  // namespace sentencekv
