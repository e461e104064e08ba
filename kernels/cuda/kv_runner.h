// The operations on pages of K and V but attention, storing, copying, reading;
// and copies inside device memory.
#pragma once

#include "absl/status/status.h"
#include "kernels/cuda/cuda_streams.h"
#include "kernels/cuda/staging_ring.h"
#include "kernels/cuda/step_graphs.h"
#include "kernels/cuda/workspace.h"
#include "kernels/op_params.h"
#include "kernels/sentence_params.h"

namespace sentencekv {

// One thread, and the compute stream. REQUIRES, of all: checked arguments.
class KvRunner {
 public:
  KvRunner(CudaStreams& streams, StagingRing& ring, StepGraphs& graphs,
           DeviceArena& arena)
      : streams_(streams), ring_(ring), graphs_(graphs), keys_(arena) {}

  absl::Status Store(const RopeStoreKvParams& params);
  absl::Status CopyPages(const CopyPagesParams& params);
  absl::Status CopyRows(const CopyRowsParams& params);
  // Keys lie in host memory when it returns.
  absl::Status ReadKeys(const ReadKeysParams& params);

 private:
  CudaStreams& streams_;
  StagingRing& ring_;
  StepGraphs& graphs_;
  Workspace keys_;  // what ReadKeys read
};

}  // namespace sentencekv
