// Sharing of an attention operation among threads; see attention_tile.h for the
// arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "absl/status/status.h"
#include "kernels/cpu/aligned_memory.h"
#include "kernels/cpu/attention_plan.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/worker_pool.h"
#include "kernels/op_params.h"

namespace sentencekv {

// Runs attention as repeatable jobs, so that no step waits for a thread that
// the system has put aside. Such a thread may go on reading K and V: whoever
// writes them asks WaitForReaders first.
//
// Not thread-safe: used by the thread that uses the backend.
class AttentionRunner {
 public:
  // Both must outlive the runner.
  AttentionRunner(const AttentionKernels& kernels, WorkerPool& pool)
      : kernels_(kernels), pool_(pool) {}

  // REQUIRES: checked arguments, at least one sequence. kResourceExhausted when
  // there is no memory for copies of the queries.
  absl::Status Run(const AttentionParams& params);
  absl::Status RunSelected(const SelectedAttentionParams& params);

  // Returns when no thread left behind reads the K and V of the layer whose
  // pages begin at `layer`: at once, but for a thread that has been put aside
  // since the step before.
  void WaitForReaders(const void* layer) const;

 private:
  // All that the threads of one operation read, but for K and V. Kept, so that
  // a step allocates nothing once it has seen its largest size.
  struct Operation {
    // Scaled: [sequences][G][rows][H / G][D], or [selections][H / G][D].
    GrowingMemory queries;
    std::vector<int32_t> pages;  // of all sequences or selections
    std::vector<uint16_t> masks;
    std::vector<PlannedTile> tiles;
    std::vector<PlannedTile> cut_tiles;  // those cut into parts
    GrowingMemory partials;
    uint32_t attend_job = 0;
    uint32_t merge_job = 0;
  };

  // The job that read a layer's K and V last.
  struct LayerReader {
    const void* layer;
    uint32_t job_number;
  };

  Operation& FreeOperation();
  absl::Status CopyInputs(const AttentionParams& params, Operation& operation);
  absl::Status CopyInputs(const SelectedAttentionParams& params,
                          Operation& operation);
  // Runs the tiles of an operation on a layer's pages.
  absl::Status Execute(const void* layer, Operation& operation);
  uint32_t RunTiles(const std::vector<PlannedTile>& tiles);
  void RememberReader(const void* layer, uint32_t job_number);

  const AttentionKernels& kernels_;
  WorkerPool& pool_;
  // Never more than threads + 1; addresses stay.
  std::deque<Operation> operations_;
  std::vector<LayerReader> readers_;  // by layer
};

}  // namespace sentencekv
