// SentenceChooser on CUDA: a layer is scoring, choosing, gathering between two
// events in the stream of copies to the device, and attention.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/choose_kernels.h"
#include "kernels/cuda/cuda_attention.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_streams.h"
#include "kernels/cuda/score_rows_kernels.h"
#include "kernels/cuda/staging_ring.h"
#include "kernels/cuda/workspace.h"
#include "kernels/sentence_chooser.h"

namespace sentencekv {

// What a chooser works with; outlives it.
struct ChooserParts {
  CudaStreams& streams;
  StagingRing& ring;
  DeviceArena& arena;
  PinnedPool& pinned;
  const CudaAttention& attention;
};

class CudaChooser final : public SentenceChooser {
 public:
  // Null where the room is more than the kernels have. Rows may be fewer.
  static absl::StatusOr<std::unique_ptr<SentenceChooser>> Create(
      const ChooserParts& parts, const ChoosingRoom& wanted);
  // Memory goes next: nothing may still use it.
  ~CudaChooser() override { (void)parts_.streams.AwaitAll(); }

  absl::StatusOr<std::unique_ptr<ChoosingSequence>> NewSequence() override;
  absl::Status BeginStep(std::span<const ChoosingRowParams> rows) override;
  absl::Status Attend(const ChoosingLayer& layer) override;
  absl::Status EndStep() override;
  ChoosingCounts counts(int64_t row) const override;

 private:
  CudaChooser(const ChooserParts& parts, const ChoosingRoom& room)
      : SentenceChooser(room), parts_(parts), scratch_(parts.arena) {}

  int64_t num_kv_heads() const { return room().pool.num_kv_heads; }
  size_t CountBytes() const {
    return row_numbers_.size() * static_cast<size_t>(num_kv_heads()) *
           sizeof(ChoiceCounts);
  }
  // Rows that are scored and chosen for together: as many as the memory for
  // their scores allows.
  int64_t RowsOfALaunch(const ChoosingLayer& layer) const;
  absl::Status AttendTogether(const ChoosingLayer& layer);
  // Its memory, and what does not depend on the rows.
  absl::StatusOr<ChooseLaunch> MakeLaunch(const ChoosingLayer& layer);
  // Tiles of the lists that the launch writes.
  absl::Status SendTiles(const ChoosingLayer& layer, ChooseLaunch* choose);
  // K and V that slots lack, before anything that is submitted from now on.
  absl::Status Gather(const ChoosingLayer& layer, const ChooseLaunch& choose);
  absl::Status AttendToSlots(const ChoosingLayer& layer,
                             const ChooseLaunch& choose);

  const ChooserParts parts_;
  DeviceMemory rows_;         // [most_rows] ChoosingRow
  DeviceMemory scoring_;      // [most_rows] ScoringRow
  DeviceMemory counts_;       // [most_rows][G] ChoiceCounts
  PinnedMemory host_counts_;  // the same, of the step that has ended
  Workspace scratch_;
  AttentionPlan plan_;  // of one launch
  // Of the step.
  std::vector<int64_t> row_numbers_;  // ChoosingRowParams::row
  int64_t most_chosen_ = 0;
};

}  // namespace sentencekv
