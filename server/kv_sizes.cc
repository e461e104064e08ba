#include "server/kv_sizes.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/memory_budget.h"
#include "server/flag_values.h"
#include "server/process_stats.h"

namespace sentencekv {
namespace {

// A pool of fewer pages than this (64 tokens) serves nothing.
constexpr int64_t kMinPages = 4;

// Tokens of the longest request.
int64_t MostContext(const ServerConfig& config, const ModelInfo& info) {
  return config.context_length > 0
             ? std::min(info.context_length, config.context_length)
             : info.context_length;
}

std::optional<int64_t> FreeDeviceMemory(const Backend& backend) {
  const MemoryBudget budget = backend.memory_budget();
  if (budget.total_bytes == 0) return std::nullopt;
  return static_cast<int64_t>(budget.free_bytes + budget.releasing_bytes);
}

}  // namespace

int64_t DefaultKvHostMemory(int64_t physical_bytes, int64_t page_bytes,
                            int64_t context_length, int64_t max_running) {
  const int64_t useful = PagesFor(context_length) * page_bytes * max_running;
  return std::min(physical_bytes / 4, useful);
}

int64_t DefaultKvDeviceMemory(std::optional<int64_t> free_bytes,
                              int64_t pool_bytes) {
  constexpr int64_t kOfUnknown = int64_t{1} << 30;
  return std::min(free_bytes.has_value() ? *free_bytes / 2 : kOfUnknown,
                  pool_bytes);
}

absl::StatusOr<KvLayout> ChooseKvLayout(const ServerConfig& config,
                                        const ModelInfo& info) {
  KvLayout layout = {.num_layers = info.num_layers,
                     .num_pages = 1,
                     .num_kv_heads = info.num_kv_heads,
                     .head_dim = info.head_dim,
                     .dtype = config.kv_dtype};
  const int64_t page_bytes = layout.total_bytes();
  const int64_t bytes =
      config.kv_host_memory_bytes > 0
          ? config.kv_host_memory_bytes
          : DefaultKvHostMemory(PhysicalMemoryBytes(), page_bytes,
                                MostContext(config, info), config.max_running);
  layout.num_pages = bytes / page_bytes;
  if (layout.num_pages < kMinPages) {
    return absl::InvalidArgumentError(fmt::format(
        "--kv_host_memory: at least {} bytes are needed for {} pages of this "
        "model, got {}",
        kMinPages * page_bytes, kMinPages, bytes));
  }
  return layout;
}

absl::StatusOr<std::unique_ptr<KvMemory>> CreateKvMemory(
    const ServerConfig& config, const ModelInfo& info, PagePool& pool) {
  const bool is_played = config.cpu_discrete_memory_bytes > 0;
  int64_t device_bytes = is_played ? config.cpu_discrete_memory_bytes
                                   : config.kv_device_memory_bytes;
  if (device_bytes == 0) {
    device_bytes = DefaultKvDeviceMemory(FreeDeviceMemory(pool.backend()),
                                         pool.layout().total_bytes());
  }
  absl::StatusOr<std::unique_ptr<KvMemory>> memory = KvMemory::Create(
      pool,
      {.device_bytes = device_bytes,
       .max_sequence_tokens = std::min(MostContext(config, info),
                                       pool.layout().num_pages * kPageTokens)});
  if (memory.ok()) return memory;
  return WithFlag(is_played ? "--cpu_discrete_memory" : "--kv_device_memory",
                  memory.status());
}

}  // namespace sentencekv
