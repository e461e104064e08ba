// DeviceKvMemory for rows that choose on the device.
#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "cache/device_kv_memory.h"
#include "fmt/format.h"
#include "kernels/check.h"
#include "kernels/status_macros.h"

namespace sentencekv {

absl::Status DeviceKvMemory::GiveSlots(CachedSequence& sequence,
                                       int64_t num_slots,
                                       ChoosingSequence& there) {
  const int64_t num_layers = pool_.layout().num_layers;
  const int64_t missing = num_slots - there.num_slots();
  if (missing <= 0) return absl::OkStatus();
  // Whatever was brought has been used.
  frames_.BeginUse();
  if (missing * num_layers > frames_.num_lendable()) {
    return absl::ResourceExhaustedError(
        fmt::format("device memory: {} frames are wanted for chosen pages; {} "
                    "can be lent",
                    missing * num_layers, frames_.num_lendable()));
  }
  std::vector<int32_t> lent;
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    ResidentLayer& resident = LayerOf(sequence, layer);
    for (int64_t i = 0; i < missing; ++i) {
      const std::optional<int32_t> frame = frames_.Lend();
      SKV_CHECK(frame.has_value());
      resident.chosen_frames.push_back(*frame);
      lent.push_back(*frame);
      // What is fetched into it comes behind copies of what it held.
      copies_.WillWrite(*frame);
    }
  }
  return there.AddSlots(lent);
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
