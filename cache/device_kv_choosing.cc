// DeviceKvMemory for rows that choose on the device.
#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "cache/device_kv_memory.h"
#include "fmt/format.h"
#include "kernels/check.h"
#include "kernels/rounding.h"
#include "kernels/status_macros.h"

namespace sentencekv {

// A slot is any run of a layer's frames: heads with more slots take more runs,
// and a layer has no more frames than its heads together need.
absl::Status DeviceKvMemory::GiveSlots(CachedSequence& sequence,
                                       std::span<const int32_t> num_slots,
                                       ChoosingSequence& there) {
  const auto num_layers = static_cast<size_t>(pool_.layout().num_layers);
  const auto num_kv_heads = static_cast<size_t>(pool_.layout().num_kv_heads);
  std::vector<int32_t> missing(num_slots.size());
  std::vector<int64_t> new_frames(num_layers);
  int64_t num_runs = 0;
  int64_t num_frames = 0;
  for (size_t layer = 0; layer < num_layers; ++layer) {
    const ResidentLayer& resident =
        LayerOf(sequence, static_cast<int64_t>(layer));
    int64_t runs = resident.num_slot_runs;
    for (size_t i = layer * num_kv_heads; i < (layer + 1) * num_kv_heads; ++i) {
      missing[i] = std::max(num_slots[i] - there.num_slots()[i], 0);
      num_runs += missing[i];
      runs += missing[i];
    }
    new_frames[layer] =
        std::max<int64_t>(CeilDiv(runs, pool_.layout().num_kv_heads) -
                              std::ssize(resident.chosen_frames),
                          0);
    num_frames += new_frames[layer];
  }
  if (num_runs == 0) return absl::OkStatus();
  // Whatever was brought has been used.
  frames_.BeginUse();
  if (num_frames > frames_.num_lendable()) {
    return absl::ResourceExhaustedError(
        fmt::format("device memory: {} frames are wanted for chosen pages; {} "
                    "can be lent",
                    num_frames, frames_.num_lendable()));
  }
  std::vector<int32_t> runs;
  for (size_t layer = 0; layer < num_layers; ++layer) {
    ResidentLayer& resident = LayerOf(sequence, static_cast<int64_t>(layer));
    LendForSlots(resident, new_frames[layer]);
    for (size_t i = layer * num_kv_heads; i < (layer + 1) * num_kv_heads; ++i) {
      for (int32_t slot = 0; slot < missing[i]; ++slot) {
        runs.push_back(NextSlotRun(resident));
      }
    }
  }
  return there.AddSlots(missing, runs);
}

void DeviceKvMemory::LendForSlots(ResidentLayer& resident, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const std::optional<int32_t> frame = frames_.Lend();
    SKV_CHECK(frame.has_value());
    resident.chosen_frames.push_back(*frame);
    // What is fetched into it comes behind copies of what it held.
    copies_.WillWrite(*frame);
  }
}

int32_t DeviceKvMemory::NextSlotRun(ResidentLayer& resident) const {
  const int64_t num_kv_heads = pool_.layout().num_kv_heads;
  const int64_t number = resident.num_slot_runs++;
  const int32_t frame =
      resident.chosen_frames[static_cast<size_t>(number / num_kv_heads)];
  return static_cast<int32_t>(frame * num_kv_heads + number % num_kv_heads);
}

absl::Status DeviceKvMemory::TellPages(CachedSequence& sequence,
                                       int64_t num_tokens,
                                       ChoosingSequence& there) {
  auto& residency = static_cast<SequenceResidency&>(*sequence.residency);
  std::vector<int32_t>& told = residency.told_pages;
  const std::span pages = std::span<const int32_t>(sequence.pages)
                              .first(static_cast<size_t>(PagesFor(num_tokens)));
  const auto differs = std::ranges::mismatch(pages, told).in1;
  const int64_t first = differs - pages.begin();
  SKV_RETURN_IF_ERROR(
      there.SetPages(first, pages.subspan(static_cast<size_t>(first))));
  told.assign(pages.begin(), pages.end());
  // The last page is being written.
  const int64_t last = std::ssize(pages) - 1;
  for (int64_t i = std::min(first, residency.num_awaited); i < last; ++i) {
    copies_.WillRead(pages[static_cast<size_t>(i)]);
  }
  residency.num_awaited = last;
  return absl::OkStatus();
}

absl::Status DeviceKvMemory::BringLastPage(int64_t layer,
                                           CachedSequence& sequence,
                                           int64_t num_tokens,
                                           ChoosingSequence& there) {
  const auto page = static_cast<int32_t>(PagesFor(num_tokens) - 1);
  SKV_ASSIGN_OR_RETURN(
      const int32_t frame,
      BringPage(layer, LayerOf(sequence, layer), sequence, page));
  return there.SetWholePage(layer, page, frame);
}

void DeviceKvMemory::AddCounts(CachedSequence& sequence,
                               const ChoosingCounts& counts) {
  transfers_.chosen_hits += counts.hits;
  transfers_.chosen_misses += counts.misses;
  transfers_.evictions += counts.evictions;
  transfers_.bytes_to_device += counts.bytes;
  static_cast<SequenceResidency&>(*sequence.residency).bytes_fetched +=
      counts.bytes;
}

}  // namespace sentencekv
