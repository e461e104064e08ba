// The operations on sentences: indexing and scoring.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "kernels/cuda/cuda_streams.h"
#include "kernels/cuda/staging_ring.h"
#include "kernels/cuda/workspace.h"
#include "kernels/sentence_params.h"

namespace sentencekv {

// One thread, and the compute stream. REQUIRES, of all: checked arguments.
class SentenceRunner {
 public:
  SentenceRunner(CudaStreams& streams, StagingRing& ring, DeviceArena& arena)
      : streams_(streams), ring_(ring), scratch_(arena) {}

  absl::Status Index(const IndexSentencesParams& params);
  // Scores lie in host memory when it returns.
  absl::Status Score(const ScoreSentencesParams& params);

 private:
  CudaStreams& streams_;
  StagingRing& ring_;
  Workspace scratch_;               // of Score: workspace, then all scores
  std::vector<float> host_scores_;  // of all items
};

}  // namespace sentencekv
