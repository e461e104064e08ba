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
#include "kernels/cuda/step_graphs.h"
#include "kernels/cuda/workspace.h"
#include "kernels/sentence_chooser.h"

namespace sentencekv {

// What a chooser works with; outlives it.
struct ChooserParts {
  CudaStreams& streams;
  StepGraphs& graphs;
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
      : SentenceChooser(room),
        parts_(parts),
        tiles_(parts.arena),
        scratch_(parts.arena) {}

  // The tiles of a launch, which all layers use: a choice writes how long they
  // are, and attention follows.
  struct LaunchTiles {
    int64_t first_row = 0;
    int64_t num_rows = 0;
    QueryTile* there = nullptr;
    int64_t num_tiles = 0;
    int64_t num_parts = 0;
    AttentionTileSize size = AttentionTileSize::kFew;
    bool has_cut_tiles = false;
  };

  int64_t num_kv_heads() const { return room().pool.num_kv_heads; }
  size_t CountBytes() const {
    return static_cast<size_t>(parts_.graphs.Rows(num_rows_) * num_kv_heads()) *
           sizeof(ChoiceCounts);
  }
  // What the step has been given; rows that fill a graph up are no rows.
  absl::Status SendRows();
  // Rows that are scored and chosen for together: as many as the memory for
  // their scores allows.
  int64_t RowsOfALaunch(const ChoosingLayer& layer) const;
  absl::Status AttendTogether(const ChoosingLayer& layer);
  // Its memory, and what does not depend on the rows.
  absl::StatusOr<ChooseLaunch> MakeLaunch(const ChoosingLayer& layer);
  // Of the lists that the launch writes; sends them once a step.
  absl::StatusOr<LaunchTiles> TilesOf(const ChoosingLayer& layer);
  // K and V that slots lack, before anything that is submitted from now on.
  absl::Status Gather(const ChoosingLayer& layer, const ChooseLaunch& choose);
  absl::Status AttendToSlots(const ChoosingLayer& layer,
                             const ChooseLaunch& choose,
                             const LaunchTiles& tiles);

  const ChooserParts parts_;
  DeviceMemory rows_;         // [most_rows] ChoosingRow
  DeviceMemory scoring_;      // [most_rows] ScoringRow
  DeviceMemory counts_;       // [most_rows][G] ChoiceCounts
  PinnedMemory host_counts_;  // the same, of the step that has ended
  Workspace tiles_;           // [most_rows][G][tiles of a choice]
  Workspace scratch_;
  AttentionPlan plan_;  // of one launch
  // Pages that lists have room for: as many as the steps so far, or somewhat
  // more, so that launches stay the same.
  int64_t most_chosen_ = 0;
  // Of the step, with rows that fill a graph up behind the others.
  int64_t num_rows_ = 0;  // that there are
  std::vector<ChoosingRow> choosing_rows_;
  std::vector<ScoringRow> scoring_rows_;
  std::vector<int64_t> row_numbers_;  // ChoosingRowParams::row
  const ChoosingRow* choosing_there_ = nullptr;
  const ScoringRow* scoring_there_ = nullptr;
  std::vector<LaunchTiles> tiles_there_;  // apart
};

}  // namespace sentencekv
