#include "kernels/memory_budget.h"

#include "fmt/format.h"

namespace sentencekv {

std::string_view MemoryUseName(MemoryUse use) {
  switch (use) {
    case MemoryUse::kWeights:
      return "weights";
    case MemoryUse::kActivations:
      return "activations";
    case MemoryUse::kKeysAndValues:
      return "K and V";
    case MemoryUse::kSentenceIndex:
      return "sentence index";
    case MemoryUse::kWorkspace:
      return "workspace";
    case MemoryUse::kStaging:
      return "staging";
    case MemoryUse::kOther:
      break;
  }
  return "other";
}

std::string ByteSizeText(size_t size_bytes) {
  if (size_bytes < 1024) return fmt::format("{} bytes", size_bytes);
  double size = static_cast<double>(size_bytes) / 1024;
  const char* unit = "KiB";
  for (const char* next : {"MiB", "GiB"}) {
    // What would be written as 1024.0.
    if (size < 1023.95) break;
    size /= 1024;
    unit = next;
  }
  return fmt::format("{:.1f} {}", size, unit);
}

std::string MemoryBudgetText(const MemoryBudget& budget) {
  std::string text;
  for (size_t i = 0; i < kNumMemoryUses; ++i) {
    if (budget.held_bytes[i] == 0) continue;
    text += fmt::format("{} {}, ", MemoryUseName(static_cast<MemoryUse>(i)),
                        ByteSizeText(budget.held_bytes[i]));
  }
  if (budget.releasing_bytes > 0) {
    text += fmt::format("given back but in use by copies {}, ",
                        ByteSizeText(budget.releasing_bytes));
  }
  text += fmt::format("free {} of {}", ByteSizeText(budget.free_bytes),
                      ByteSizeText(budget.total_bytes));
  if (budget.pinned_host_bytes > 0) {
    text += fmt::format("; pinned host memory {}",
                        ByteSizeText(budget.pinned_host_bytes));
  }
  return text;
}

}  // namespace sentencekv
