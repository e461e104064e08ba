#include "cache/device_kv_memory.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "cache/chosen_runs.h"
#include "cache/frame_pool.h"
#include "cache/stopwatch.h"
#include "fmt/format.h"
#include "kernels/check.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// A head's runs: so many times what it chose at once.
constexpr int64_t kChosenFactor = 2;

// What device memory has of one layer of a sequence.
struct ResidentLayer {
  std::vector<int32_t> frames;  // of its pages; -1: none
  // Positions whose K and V the pool has, or will have when copies are done.
  int64_t num_saved = 0;
  std::vector<ChosenRuns> chosen;      // [G]
  std::vector<int32_t> chosen_frames;  // slot s of every head lies in frame s
  int64_t most_chosen = 0;             // pages of one head at once
};

struct SequenceResidency final : Residency {
  std::vector<ResidentLayer> layers;
  int64_t bytes_fetched = 0;

  int64_t bytes_streamed() const override { return bytes_fetched; }
};

class DeviceKvMemory final : public KvMemory {
 public:
  DeviceKvMemory(PagePool& pool, Buffer memory, int64_t num_frames,
                 int64_t num_reserved);
  // Copies may be on their way.
  ~DeviceKvMemory() override { (void)backend().Synchronize(); }

  KvLayerView view(int64_t layer) override;
  KvLayerView chosen_view(int64_t layer) override;
  void BeginUse() override { frames_.BeginUse(); }
  absl::StatusOr<const int32_t*> Bring(int64_t layer, CachedSequence& sequence,
                                       int64_t begin, int64_t end) override;
  absl::StatusOr<const int32_t*> BringToWrite(int64_t layer,
                                              CachedSequence& sequence,
                                              int64_t begin,
                                              int64_t end) override;
  absl::Status BringChosen(int64_t layer, int64_t kv_head,
                           CachedSequence& sequence, const ChosenPages& chosen,
                           std::vector<int32_t>* numbers) override;
  absl::Status Prefetch(int64_t layer, int64_t kv_head,
                        CachedSequence& sequence,
                        const ChosenPages& chosen) override;
  absl::Status Ready() override;
  absl::Status Save(int64_t layer, CachedSequence& sequence, int64_t begin,
                    int64_t end) override;
  absl::Status CopyPage(int32_t source, int32_t destination) override;
  void Release(CachedSequence& sequence) override;
  KvTransfers transfers() const override;

 private:
  // Events, by their numbers, that order the uses of a frame's memory.
  struct FrameEvents {
    uint64_t filled = 0;  // of kToDevice: it has what was copied to it
    uint64_t saved = 0;   // of kToHost: the pool has what was written
  };
  // And of a page's memory in the pool.
  struct PageEvents {
    uint64_t read = 0;     // of kToDevice
    uint64_t written = 0;  // of kToHost
  };
  // The page that a frame holds.
  struct Holding {
    ResidentLayer* layer = nullptr;
    int32_t page = 0;
  };

  ResidentLayer& LayerOf(CachedSequence& sequence, int64_t layer);
  // A whole page of a sequence, in a frame that is used now.
  absl::StatusOr<int32_t> BringPage(int64_t layer, ResidentLayer& resident,
                                    const CachedSequence& sequence,
                                    int32_t page);
  // A run of a KV head, as a page number of chosen_view(). None when there is
  // no memory for it.
  std::optional<int32_t> BringRun(int64_t layer, int64_t kv_head,
                                  ResidentLayer& resident,
                                  const CachedSequence& sequence, int32_t page,
                                  uint16_t tokens);
  // Submits the copies that were asked for.
  absl::Status SubmitFetches();
  // Has `size_bytes` at an offset of a page copied to a frame, by Ready.
  void Fetch(int64_t layer, const CachedSequence& sequence, int32_t page,
             int32_t frame, int64_t offset, int64_t size_bytes);
  void Evict(int32_t frame);
  // Operations issued after Ready use the frame.
  void WaitFor(int32_t frame);
  std::byte* frame_data(int32_t frame) const {
    return memory_.as<std::byte>() + frame * pool_.layout().page_bytes();
  }
  std::byte* host_data(int64_t layer, int32_t page) const {
    return pool_.layer(layer).head(page, 0);
  }
  FrameEvents& events(int32_t frame) {
    return frame_events_[static_cast<size_t>(frame)];
  }
  PageEvents& page_events(int32_t page) {
    return page_events_[static_cast<size_t>(page)];
  }

  const Buffer memory_;  // [frames][G][K then V][P x D]
  FramePool frames_;
  std::vector<Holding> holdings_;  // [frames]
  std::vector<FrameEvents> frame_events_;
  std::vector<PageEvents> page_events_;  // of the pool's pages

  // Until Ready: copies, what they fill and read, and what they wait for.
  std::vector<CopyRun> fetches_;
  std::vector<int32_t> filled_frames_;
  std::vector<int32_t> read_pages_;
  uint64_t fetch_after_host_ = 0;
  // What operations wait for after it.
  uint64_t compute_after_device_ = 0;
  uint64_t compute_after_host_ = 0;

  KvTransfers transfers_;
};

DeviceKvMemory::DeviceKvMemory(PagePool& pool, Buffer memory,
                               int64_t num_frames, int64_t num_reserved)
    : KvMemory(pool),
      memory_(std::move(memory)),
      frames_(num_frames, num_reserved,
              [this](int32_t frame) { Evict(frame); }),
      holdings_(static_cast<size_t>(num_frames)),
      frame_events_(static_cast<size_t>(num_frames)),
      page_events_(static_cast<size_t>(pool.layout().num_pages)) {}

KvLayerView DeviceKvMemory::view(int64_t) {
  KvLayout layout = pool_.layout();
  layout.num_pages = frames_.num_frames();
  return {memory_.as<std::byte>(), layout, /*is_per_head=*/false};
}

KvLayerView DeviceKvMemory::chosen_view(int64_t) {
  KvLayout layout = pool_.layout();
  layout.num_pages = frames_.num_frames() * layout.num_kv_heads;
  return {memory_.as<std::byte>(), layout, /*is_per_head=*/true};
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
  const int32_t host_page = sequence.pages[static_cast<size_t>(page)];
  fetches_.push_back({frame_data(frame) + offset,
                      host_data(layer, host_page) + offset,
                      static_cast<size_t>(size_bytes)});
  filled_frames_.push_back(frame);
  read_pages_.push_back(host_page);
  // The copy that saves what the frame held may not be done, nor that of the
  // page to the pool.
  fetch_after_host_ = std::max(
      {fetch_after_host_, events(frame).saved, page_events(host_page).written});
  transfers_.bytes_to_device += size_bytes;
  static_cast<SequenceResidency&>(*sequence.residency).bytes_fetched +=
      size_bytes;
}

void DeviceKvMemory::WaitFor(int32_t frame) {
  compute_after_device_ = std::max(compute_after_device_, events(frame).filled);
}

absl::StatusOr<int32_t> DeviceKvMemory::BringPage(
    int64_t layer, ResidentLayer& resident, const CachedSequence& sequence,
    int32_t page) {
  int32_t& frame = resident.frames[static_cast<size_t>(page)];
  if (frame >= 0) {
    ++transfers_.hits;
    frames_.Touch(frame);
    WaitFor(frame);
    return frame;
  }
  const std::optional<int32_t> taken = frames_.TakeForPage();
  if (!taken.has_value()) {
    return absl::ResourceExhaustedError(fmt::format(
        "device memory: all of {} frames are in use", frames_.num_frames()));
  }
  frame = *taken;
  holdings_[static_cast<size_t>(frame)] = {&resident, page};
  WaitFor(frame);
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
    compute_after_host_ =
        std::max(compute_after_host_, events(frames[page]).saved);
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
    WaitFor(frame);
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
  SKV_RETURN_IF_ERROR(SubmitFetches());
  // Operations that use it will wait for it.
  compute_after_device_ = 0;
  return absl::OkStatus();
}

absl::Status DeviceKvMemory::SubmitFetches() {
  if (fetches_.empty()) return absl::OkStatus();
  Backend& device = backend();
  SKV_ASSIGN_OR_RETURN(const DeviceEvent computed,
                       device.Record(DeviceStream::kCompute));
  SKV_RETURN_IF_ERROR(device.Wait(DeviceStream::kToDevice, computed));
  SKV_RETURN_IF_ERROR(device.Wait(DeviceStream::kToDevice,
                                  {DeviceStream::kToHost, fetch_after_host_}));
  SKV_RETURN_IF_ERROR(device.Transfer(DeviceStream::kToDevice, fetches_));
  SKV_ASSIGN_OR_RETURN(const DeviceEvent filled,
                       device.Record(DeviceStream::kToDevice));
  for (const int32_t frame : filled_frames_) {
    events(frame).filled = filled.number;
  }
  for (const int32_t page : read_pages_) {
    page_events(page).read = filled.number;
  }
  compute_after_device_ = filled.number;
  // Only now: what an error above left undone is done, and waited for, with the
  // next copies.
  fetch_after_host_ = 0;
  fetches_.clear();
  filled_frames_.clear();
  read_pages_.clear();
  return absl::OkStatus();
}

absl::Status DeviceKvMemory::Ready() {
  const Stopwatch time(&transfers_.seconds_stalled);
  SKV_RETURN_IF_ERROR(SubmitFetches());
  SKV_RETURN_IF_ERROR(
      backend().Wait(DeviceStream::kCompute,
                     {DeviceStream::kToDevice, compute_after_device_}));
  SKV_RETURN_IF_ERROR(backend().Wait(
      DeviceStream::kCompute, {DeviceStream::kToHost, compute_after_host_}));
  compute_after_device_ = compute_after_host_ = 0;
  return absl::OkStatus();
}

absl::Status DeviceKvMemory::Save(int64_t layer, CachedSequence& sequence,
                                  int64_t begin, int64_t end) {
  ResidentLayer& resident = LayerOf(sequence, layer);
  Backend& device = backend();
  std::vector<CopyRun> runs;
  uint64_t read = 0;
  for (int64_t page = begin / kPageTokens; page < PagesFor(end); ++page) {
    const int32_t frame = resident.frames[static_cast<size_t>(page)];
    const int32_t host_page = sequence.pages[static_cast<size_t>(page)];
    SKV_CHECK(frame >= 0);
    read = std::max(read, page_events(host_page).read);
    runs.push_back({host_data(layer, host_page), frame_data(frame),
                    static_cast<size_t>(pool_.layout().page_bytes())});
  }
  transfers_.bytes_to_host += std::ssize(runs) * pool_.layout().page_bytes();
  SKV_ASSIGN_OR_RETURN(const DeviceEvent written,
                       device.Record(DeviceStream::kCompute));
  SKV_RETURN_IF_ERROR(device.Wait(DeviceStream::kToHost, written));
  SKV_RETURN_IF_ERROR(
      device.Wait(DeviceStream::kToHost, {DeviceStream::kToDevice, read}));
  SKV_RETURN_IF_ERROR(device.Transfer(DeviceStream::kToHost, runs));
  SKV_ASSIGN_OR_RETURN(const DeviceEvent saved,
                       device.Record(DeviceStream::kToHost));
  for (int64_t page = begin / kPageTokens; page < PagesFor(end); ++page) {
    events(resident.frames[static_cast<size_t>(page)]).saved = saved.number;
    page_events(sequence.pages[static_cast<size_t>(page)]).written =
        saved.number;
  }
  resident.num_saved = std::max(resident.num_saved, end);
  return absl::OkStatus();
}

absl::Status DeviceKvMemory::CopyPage(int32_t source, int32_t destination) {
  std::vector<CopyRun> runs;
  for (int64_t layer = 0; layer < pool_.layout().num_layers; ++layer) {
    runs.push_back({host_data(layer, destination), host_data(layer, source),
                    static_cast<size_t>(pool_.layout().page_bytes())});
  }
  SKV_RETURN_IF_ERROR(
      backend().Wait(DeviceStream::kToHost,
                     {DeviceStream::kToDevice, page_events(destination).read}));
  SKV_RETURN_IF_ERROR(backend().Transfer(DeviceStream::kToHost, runs));
  SKV_ASSIGN_OR_RETURN(const DeviceEvent written,
                       backend().Record(DeviceStream::kToHost));
  page_events(destination).written = written.number;
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
  return transfers;
}

}  // namespace

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
  SKV_ASSIGN_OR_RETURN(Buffer memory,
                       pool.backend().Allocate(static_cast<size_t>(
                           num_frames * layout.page_bytes())));
  return std::make_unique<DeviceKvMemory>(pool, std::move(memory), num_frames,
                                          num_reserved);
}

}  // namespace sentencekv
