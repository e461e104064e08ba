// What the device has of a sequence whose rows choose there: tables of slots,
// ends of sentences, page numbers. kernels/cuda/choose_kernels.h reads it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/choose_kernels.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_streams.h"
#include "kernels/cuda/staging_ring.h"
#include "kernels/sentence_chooser.h"

namespace sentencekv {

// One thread, and the compute stream. Nothing but ReadChoice waits.
class ChoosingTables final : public ChoosingSequence {
 public:
  static absl::StatusOr<std::unique_ptr<ChoosingTables>> Create(
      const CudaStreams& streams, StagingRing& ring, DeviceArena& arena,
      const ChoosingRoom& room);

  absl::Status SetBudgets(std::span<const int32_t> budgets) override;
  std::span<const int32_t> num_slots() const override { return num_slots_; }
  absl::Status AddSlots(std::span<const int32_t> counts,
                        std::span<const int32_t> runs) override;
  int64_t num_ends() const override { return num_ends_; }
  absl::Status AddEnds(std::span<const int32_t> ends) override;
  absl::Status SetPages(int64_t first_page,
                        std::span<const int32_t> pages) override;
  absl::Status SetWholePage(int64_t layer, int32_t page,
                            int32_t frame) override;
  absl::StatusOr<std::vector<uint32_t>> ReadChoice(int64_t layer,
                                                   int64_t kv_head) override;

  // The row of the sequence's next step, as kernels read it.
  ChoosingRow NextRow(const ChoosingRowParams& params);

 private:
  // Where the parts of the memory begin.
  struct Parts {
    std::byte* tables;     // [L][G] of HeadTableBytes
    HeadLimits* heads;     // [L][G]
    int32_t* ends;         // [most_sentences]
    int32_t* host_pages;   // [most_pages]
    int32_t* whole_pages;  // [L][most_pages]
  };
  // In a frame as a whole; -1: none is.
  struct WholePage {
    int32_t page = -1;
    int32_t frame = -1;
  };

  ChoosingTables(StagingRing& ring, const ChoosingRoom& room,
                 DeviceMemory memory);
  std::byte* TableOf(int64_t head) const;  // l G + g
  absl::Status WriteHeads();
  absl::Status WriteWholePage(int64_t layer, int32_t page, int32_t run);
  template <typename T>
  absl::Status Write(const T* to, std::span<const T> values);

  StagingRing& ring_;
  const ChoosingRoom room_;
  DeviceMemory memory_;
  Parts parts_;
  std::vector<WholePage> whole_pages_;  // [L]
  std::vector<HeadLimits> heads_;       // as the device has them
  std::vector<int32_t> num_slots_;      // [L][G]
  int64_t num_ends_ = 0;
  uint32_t use_ = 0;  // the last step's
};

}  // namespace sentencekv
