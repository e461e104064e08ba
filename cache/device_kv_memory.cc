#include "cache/device_kv_memory.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "fmt/format.h"
#include "kernels/check.h"
#include "kernels/rounding.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// A head's runs: so many times what it chose at once.
constexpr int64_t kChosenFactor = 2;

// Room for rows that choose on the device; others choose on the host. Few texts
// have sentences of less than four tokens; a head's budget of 7,000 tokens
// takes so many slots at most.
constexpr int64_t kMostChoosingRows = 256;
constexpr int64_t kLeastSentenceTokens = 4;
constexpr int64_t kMostSlots = 2048;

ChoosingRoom RoomFor(const KvLayout& pool, int64_t max_sequence_tokens) {
  const int64_t most_pages = RoundUp(PagesFor(max_sequence_tokens), 32);
  return {
      .pool = pool,
      .most_rows = kMostChoosingRows,
      .most_sentences = RoundUp(max_sequence_tokens / kLeastSentenceTokens, 32),
      .most_pages = most_pages,
      .most_slots = std::min(most_pages, kMostSlots)};
}

}  // namespace

DeviceKvMemory::DeviceKvMemory(PagePool& pool, Buffer memory,
                               int64_t num_frames, int64_t num_reserved,
                               std::unique_ptr<SentenceChooser> chooser)
    : KvMemory(pool),
      copies_(pool, std::move(memory), num_frames),
      frames_(num_frames, num_reserved,
              [this](int32_t frame) { Evict(frame); }),
      holdings_(static_cast<size_t>(num_frames)),
      chooser_(std::move(chooser)) {}

KvLayerView DeviceKvMemory::view(int64_t) {
  KvLayout layout = pool_.layout();
  layout.num_pages = frames_.num_frames();
  return {copies_.frames(), layout, /*is_per_head=*/false};
}

KvLayerView DeviceKvMemory::chosen_view(int64_t) {
  KvLayout layout = pool_.layout();
  layout.num_pages = frames_.num_frames() * layout.num_kv_heads;
  return {copies_.frames(), layout, /*is_per_head=*/true};
}

ResidentLayer& DeviceKvMemory::LayerOf(CachedSequence& sequence,
                                       int64_t layer) {
  if (sequence.residency == nullptr) {
    auto residency = std::make_unique<SequenceResidency>();
    residency->layers.resize(static_cast<size_t>(pool_.layout().num_layers));
    for (ResidentLayer& resident : residency->layers) {
      resident.num_saved = sequence.num_tokens;
      resident.chosen.resize(static_cast<size_t>(pool_.layout().num_kv_heads));
    }
    sequence.residency = std::move(residency);
  }
  ResidentLayer& resident = static_cast<SequenceResidency&>(*sequence.residency)
                                .layers[static_cast<size_t>(layer)];
  resident.frames.resize(sequence.pages.size(), -1);
  return resident;
}

void DeviceKvMemory::Evict(int32_t frame) {
  const Holding& holding = holdings_[static_cast<size_t>(frame)];
  holding.layer->frames[static_cast<size_t>(holding.page)] = -1;
  ++transfers_.evictions;
}

void DeviceKvMemory::Fetch(int64_t layer, const CachedSequence& sequence,
                           int32_t page, int32_t frame, int64_t offset,
                           int64_t size_bytes) {
  copies_.Fetch(layer, {frame, sequence.pages[static_cast<size_t>(page)]},
                offset, size_bytes);
  static_cast<SequenceResidency&>(*sequence.residency).bytes_fetched +=
      size_bytes;
}

absl::StatusOr<int32_t> DeviceKvMemory::BringPage(
    int64_t layer, ResidentLayer& resident, const CachedSequence& sequence,
    int32_t page) {
  int32_t& frame = resident.frames[static_cast<size_t>(page)];
  if (frame >= 0) {
    ++transfers_.hits;
    frames_.Touch(frame);
    copies_.WillUse(frame);
    return frame;
  }
  const std::optional<int32_t> taken = frames_.TakeForPage();
  if (!taken.has_value()) {
    return absl::ResourceExhaustedError(fmt::format(
        "device memory: all of {} frames are in use", frames_.num_frames()));
  }
  frame = *taken;
  holdings_[static_cast<size_t>(frame)] = {&resident, page};
  copies_.WillUse(frame);
  if (page * kPageTokens < resident.num_saved) {
    ++transfers_.misses;
    Fetch(layer, sequence, page, frame, 0, pool_.layout().page_bytes());
  }
  return frame;
}

absl::StatusOr<const int32_t*> DeviceKvMemory::Bring(int64_t layer,
                                                     CachedSequence& sequence,
                                                     int64_t begin,
                                                     int64_t end) {
  ResidentLayer& resident = LayerOf(sequence, layer);
  for (int64_t page = begin / kPageTokens; page < PagesFor(end); ++page) {
    SKV_RETURN_IF_ERROR(
        BringPage(layer, resident, sequence, static_cast<int32_t>(page))
            .status());
  }
  return resident.frames.data();
}

absl::StatusOr<const int32_t*> DeviceKvMemory::BringToWrite(
    int64_t layer, CachedSequence& sequence, int64_t begin, int64_t end) {
  SKV_ASSIGN_OR_RETURN(const int32_t* const frames,
                       Bring(layer, sequence, begin, end));
  for (int64_t page = begin / kPageTokens; page < PagesFor(end); ++page) {
    copies_.WillWrite(frames[page]);
  }
  return frames;
}

std::optional<int32_t> DeviceKvMemory::BringRun(int64_t layer, int64_t kv_head,
                                                ResidentLayer& resident,
                                                const CachedSequence& sequence,
                                                int32_t page, uint16_t tokens) {
  ChosenRuns& runs = resident.chosen[static_cast<size_t>(kv_head)];
  const auto number = [&](int32_t slot) {
    const int32_t frame = resident.chosen_frames[static_cast<size_t>(slot)];
    copies_.WillUse(frame);
    return static_cast<int32_t>(frame * pool_.layout().num_kv_heads + kv_head);
  };
  if (const auto slot = runs.Find(page, tokens, frames_.use())) {
    ++transfers_.chosen_hits;
    return number(*slot);
  }
  const auto num_slots = std::ssize(resident.chosen_frames);
  if (runs.num_used() == num_slots &&
      num_slots < kChosenFactor * resident.most_chosen) {
    if (const auto frame = frames_.Lend()) {
      resident.chosen_frames.push_back(*frame);
    }
  }
  const int64_t num_saved = resident.num_saved - page * kPageTokens;
  const auto there = static_cast<uint16_t>(
      PageTokenBits(0, 0, std::min(num_saved, kPageTokens)));
  SKV_CHECK((tokens & ~there) == 0);
  const int64_t num_evictions = runs.num_evictions();
  const auto slot = runs.Place(page, there, frames_.use(),
                               std::ssize(resident.chosen_frames));
  if (!slot.has_value()) return std::nullopt;
  transfers_.evictions += runs.num_evictions() - num_evictions;
  ++transfers_.chosen_misses;
  const int64_t head_bytes = pool_.layout().head_bytes();
  Fetch(layer, sequence, page,
        resident.chosen_frames[static_cast<size_t>(*slot)],
        kv_head * head_bytes, head_bytes);
  return number(*slot);
}

absl::Status DeviceKvMemory::BringChosen(int64_t layer, int64_t kv_head,
                                         CachedSequence& sequence,
                                         const ChosenPages& chosen,
                                         std::vector<int32_t>* numbers) {
  ResidentLayer& resident = LayerOf(sequence, layer);
  resident.most_chosen =
      std::max(resident.most_chosen, std::ssize(chosen.pages));
  numbers->clear();
  numbers->reserve(chosen.pages.size());
  const int64_t num_kv_heads = pool_.layout().num_kv_heads;
  for (size_t i = 0; i < chosen.pages.size(); ++i) {
    const int32_t page = chosen.pages[i];
    // Pages that were written lately are there as a whole.
    const bool is_there = resident.frames[static_cast<size_t>(page)] >= 0;
    const std::optional<int32_t> run =
        is_there ? std::nullopt
                 : BringRun(layer, kv_head, resident, sequence, page,
                            chosen.masks[i]);
    if (run.has_value()) {
      numbers->push_back(*run);
      continue;
    }
    SKV_ASSIGN_OR_RETURN(const int32_t frame,
                         BringPage(layer, resident, sequence, page));
    numbers->push_back(static_cast<int32_t>(frame * num_kv_heads + kv_head));
  }
  return absl::OkStatus();
}

absl::Status DeviceKvMemory::Prefetch(int64_t layer, int64_t kv_head,
                                      CachedSequence& sequence,
                                      const ChosenPages& chosen) {
  ResidentLayer& resident = LayerOf(sequence, layer);
  for (size_t i = 0; i < chosen.pages.size(); ++i) {
    const int32_t page = chosen.pages[i];
    if (resident.frames[static_cast<size_t>(page)] >= 0) continue;
    BringRun(layer, kv_head, resident, sequence, page, chosen.masks[i]);
  }
  SKV_RETURN_IF_ERROR(copies_.Submit());
  // Operations that use it will wait for it.
  copies_.ForgetUses();
  return absl::OkStatus();
}

absl::Status DeviceKvMemory::Save(int64_t layer, CachedSequence& sequence,
                                  int64_t begin, int64_t end) {
  ResidentLayer& resident = LayerOf(sequence, layer);
  std::vector<WrittenPage> written;
  for (int64_t page = begin / kPageTokens; page < PagesFor(end); ++page) {
    const auto index = static_cast<size_t>(page);
    SKV_CHECK(resident.frames[index] >= 0);
    written.push_back({layer, {resident.frames[index], sequence.pages[index]}});
  }
  SKV_RETURN_IF_ERROR(copies_.Save(written));
  resident.num_saved = std::max(resident.num_saved, end);
  return absl::OkStatus();
}

// One event for all: layers are not waited for one by one.
absl::Status DeviceKvMemory::SaveNext(
    std::span<CachedSequence* const> sequences) {
  const int64_t num_layers = pool_.layout().num_layers;
  std::vector<WrittenPage> written;
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    for (CachedSequence* const sequence : sequences) {
      const auto page = static_cast<size_t>(sequence->num_tokens / kPageTokens);
      const int32_t frame = LayerOf(*sequence, layer).frames[page];
      SKV_CHECK(frame >= 0);
      written.push_back({layer, {frame, sequence->pages[page]}});
    }
  }
  SKV_RETURN_IF_ERROR(copies_.Save(written));
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    for (CachedSequence* const sequence : sequences) {
      ResidentLayer& resident = LayerOf(*sequence, layer);
      resident.num_saved =
          std::max(resident.num_saved, sequence->num_tokens + 1);
    }
  }
  return absl::OkStatus();
}

void DeviceKvMemory::Release(CachedSequence& sequence) {
  if (sequence.residency == nullptr) return;
  for (ResidentLayer& resident :
       static_cast<SequenceResidency&>(*sequence.residency).layers) {
    for (const int32_t frame : resident.frames) {
      if (frame >= 0) frames_.GiveBack(frame);
    }
    for (const int32_t frame : resident.chosen_frames) frames_.GiveBack(frame);
  }
  sequence.residency.reset();
}

KvTransfers DeviceKvMemory::transfers() const {
  KvTransfers transfers = transfers_;
  transfers.frames_total = frames_.num_frames();
  transfers.frames_used = frames_.num_used();
  transfers.bytes_to_device += copies_.bytes_to_device();
  transfers.bytes_to_host = copies_.bytes_to_host();
  transfers.seconds_stalled = copies_.seconds_stalled();
  return transfers;
}

absl::StatusOr<std::unique_ptr<KvMemory>> MakeDeviceKvMemory(
    PagePool& pool, const KvMemoryOptions& options) {
  SKV_CHECK(pool.backend().has_own_memory());
  const KvLayout& layout = pool.layout();
  const int64_t most =
      std::numeric_limits<int32_t>::max() / layout.num_kv_heads;
  const int64_t num_frames =
      std::min(options.device_bytes / layout.page_bytes(), most);
  const int64_t num_reserved =
      std::max<int64_t>(PagesFor(options.max_sequence_tokens), 1);
  if (num_frames < num_reserved) {
    return absl::InvalidArgumentError(fmt::format(
        "one layer of K and V of the longest sequence, {} tokens, needs {} "
        "bytes of device memory, got {}",
        options.max_sequence_tokens, num_reserved * layout.page_bytes(),
        options.device_bytes));
  }
  SKV_ASSIGN_OR_RETURN(
      Buffer memory, pool.backend().Allocate(
                         static_cast<size_t>(num_frames * layout.page_bytes()),
                         MemoryUse::kKeysAndValues));
  std::unique_ptr<SentenceChooser> chooser;
  if (!options.host_chooses) {
    SKV_ASSIGN_OR_RETURN(
        chooser,
        pool.backend().MakeSentenceChooser(RoomFor(
            layout, std::max<int64_t>(options.max_sequence_tokens, 1))));
  }
  return std::make_unique<DeviceKvMemory>(pool, std::move(memory), num_frames,
                                          num_reserved, std::move(chooser));
}

}  // namespace sentencekv
