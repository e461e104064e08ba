// What a device's memory is held for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sentencekv {

// What memory is asked for, as far as a budget tells.
enum class MemoryUse : uint8_t {
  kWeights,
  kActivations,    // of one step
  kKeysAndValues,  // pages or frames of them
  kSentenceIndex,
  kWorkspace,  // of the backend's own operations
  kStaging,    // on the way from host memory
  kOther,
};
inline constexpr size_t kNumMemoryUses = 7;
std::string_view MemoryUseName(MemoryUse use);

// All of a backend's device memory: the parts add up to total_bytes.
struct MemoryBudget {
  size_t total_bytes = 0;  // 0: the backend has no memory set aside
  std::array<size_t, kNumMemoryUses> held_bytes = {};  // by MemoryUse
  size_t releasing_bytes = 0;  // given back, but copies may still use it
  size_t free_bytes = 0;
  size_t largest_free_bytes = 0;  // what the largest block has
  size_t pinned_host_bytes = 0;   // beside it, in host memory
  // Times that operations had to wait for copies out of or into memory given
  // back, as there was no other.
  int64_t num_waits = 0;
};

// "weights 15.0 GiB, K and V 2.0 GiB, free 62.3 of 79.3 GiB"; uses that hold
// nothing are left out.
std::string MemoryBudgetText(const MemoryBudget& budget);

// "512 bytes", "1.5 KiB", "15.0 GiB".
std::string ByteSizeText(size_t size_bytes);

}  // namespace sentencekv
