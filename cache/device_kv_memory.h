// K and V for a device with memory of its own: docs/residency.md.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/choosing_memory.h"
#include "cache/chosen_runs.h"
#include "cache/frame_copies.h"
#include "cache/frame_pool.h"
#include "cache/kv_memory.h"
#include "cache/page_pool.h"
#include "kernels/sentence_chooser.h"

namespace sentencekv {

// What device memory has of one layer of a sequence.
struct ResidentLayer {
  std::vector<int32_t> frames;  // of its pages; -1: none
  // Positions whose K and V the pool has, or will have when copies are done.
  int64_t num_saved = 0;
  std::vector<ChosenRuns> chosen;  // [G]; where the host chooses
  // Slot s of every head lies in frame s where the host chooses. Where the
  // device does, heads share the runs of the frames.
  std::vector<int32_t> chosen_frames;
  int64_t num_slot_runs = 0;  // that are slots; there
  int64_t most_chosen = 0;    // pages of one head at once
};

struct SequenceResidency final : Residency {
  std::vector<ResidentLayer> layers;
  int64_t bytes_fetched = 0;
  // Where rows choose on the device: page numbers that it knows, and how many
  // pages operations find in the pool.
  std::vector<int32_t> told_pages;
  int64_t num_awaited = 0;

  int64_t bytes_streamed() const override { return bytes_fetched; }
};

class DeviceKvMemory final : public KvMemory, public ChoosingMemory {
 public:
  // `chooser` may be null.
  DeviceKvMemory(PagePool& pool, Buffer memory, int64_t num_frames,
                 int64_t num_reserved,
                 std::unique_ptr<SentenceChooser> chooser);

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
  absl::Status Ready() override { return copies_.Ready(); }
  absl::Status Save(int64_t layer, CachedSequence& sequence, int64_t begin,
                    int64_t end) override;
  absl::Status SaveNext(std::span<CachedSequence* const> sequences) override;
  absl::Status CopyPage(int32_t source, int32_t destination) override {
    return copies_.CopyPage(source, destination);
  }
  void Release(CachedSequence& sequence) override;
  KvTransfers transfers() const override;

  // cache/device_kv_choosing.cc
  ChoosingMemory* choosing() override {
    return chooser_ == nullptr ? nullptr : this;
  }
  SentenceChooser& chooser() override { return *chooser_; }
  absl::Status GiveSlots(CachedSequence& sequence,
                         std::span<const int32_t> num_slots,
                         ChoosingSequence& there) override;
  absl::Status TellPages(CachedSequence& sequence, int64_t num_tokens,
                         ChoosingSequence& there) override;
  bool HasRoomFor(int64_t num_pages) const override {
    return num_pages <= frames_.num_not_lent();
  }
  absl::Status BringLastPage(int64_t layer, CachedSequence& sequence,
                             int64_t num_tokens,
                             ChoosingSequence& there) override;
  void AddCounts(CachedSequence& sequence,
                 const ChoosingCounts& counts) override;

 private:
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
  // Frames for further slots; there are enough.
  void LendForSlots(ResidentLayer& resident, int64_t count);
  // Makes the next run of the layer's frames a slot.
  int32_t NextSlotRun(ResidentLayer& resident) const;
  // Has a part of a sequence's page copied to a frame.
  void Fetch(int64_t layer, const CachedSequence& sequence, int32_t page,
             int32_t frame, int64_t offset, int64_t size_bytes);
  void Evict(int32_t frame);

  FrameCopies copies_;
  FramePool frames_;
  std::vector<Holding> holdings_;  // [frames]
  KvTransfers transfers_;
  const std::unique_ptr<SentenceChooser> chooser_;
};

// As KvMemory::Create. REQUIRES: pool.backend().has_own_memory().
absl::StatusOr<std::unique_ptr<KvMemory>> MakeDeviceKvMemory(
    PagePool& pool, const KvMemoryOptions& options);

}  // namespace sentencekv
