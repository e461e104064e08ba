#include "cache/kv_memory.h"

#include "cache/device_kv_memory.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

class InPlaceKvMemory final : public KvMemory {
 public:
  explicit InPlaceKvMemory(PagePool& pool) : KvMemory(pool) {}

  KvLayerView view(int64_t layer) override { return pool_.layer(layer); }
  KvLayerView chosen_view(int64_t layer) override { return pool_.layer(layer); }
  void BeginUse() override {}
  absl::StatusOr<const int32_t*> Bring(int64_t, CachedSequence& sequence,
                                       int64_t, int64_t) override {
    return sequence.pages.data();
  }
  absl::StatusOr<const int32_t*> BringToWrite(int64_t, CachedSequence& sequence,
                                              int64_t, int64_t) override {
    return sequence.pages.data();
  }
  absl::Status BringChosen(int64_t, int64_t, CachedSequence& sequence,
                           const ChosenPages& chosen,
                           std::vector<int32_t>* numbers) override {
    numbers->clear();
    numbers->reserve(chosen.pages.size());
    for (const int32_t page : chosen.pages) {
      numbers->push_back(sequence.pages[static_cast<size_t>(page)]);
    }
    return absl::OkStatus();
  }
  absl::Status Prefetch(int64_t, int64_t, CachedSequence&,
                        const ChosenPages&) override {
    return absl::OkStatus();
  }
  absl::Status Ready() override { return absl::OkStatus(); }
  absl::Status Save(int64_t, CachedSequence&, int64_t, int64_t) override {
    return absl::OkStatus();
  }
  absl::Status CopyPage(int32_t source, int32_t destination) override {
    return pool_.Copy(source, destination);
  }
  void Release(CachedSequence&) override {}
  KvTransfers transfers() const override { return {}; }
};

}  // namespace

absl::Status KvMemory::SaveNext(std::span<CachedSequence* const> sequences) {
  for (int64_t layer = 0; layer < pool_.layout().num_layers; ++layer) {
    for (CachedSequence* const sequence : sequences) {
      const int64_t position = sequence->num_tokens;
      SKV_RETURN_IF_ERROR(Save(layer, *sequence, position, position + 1));
    }
  }
  return absl::OkStatus();
}

std::unique_ptr<KvMemory> MakeInPlaceKvMemory(PagePool& pool) {
  return std::make_unique<InPlaceKvMemory>(pool);
}

absl::StatusOr<std::unique_ptr<KvMemory>> KvMemory::Create(
    PagePool& pool, const KvMemoryOptions& options) {
  if (!pool.backend().has_own_memory()) return MakeInPlaceKvMemory(pool);
  return MakeDeviceKvMemory(pool, options);
}

}  // namespace sentencekv
