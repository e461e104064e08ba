// The operations of attention: plans them, sends the plan to the device and
// launches their kernels.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_streams.h"
#include "kernels/cuda/staging_ring.h"
#include "kernels/cuda/workspace.h"
#include "kernels/op_params.h"
#include "kernels/sentence_params.h"

namespace sentencekv {

// One thread, and the compute stream. REQUIRES, of all: checked arguments.
class CudaAttention {
 public:
  // Long sequences are cut into parts as far as there is memory for the states
  // of parts.
  CudaAttention(CudaStreams& streams, StagingRing& ring, DeviceArena& arena,
                int num_processors, DeviceMemory states);

  absl::Status Run(const AttentionParams& params);
  absl::Status RunSelected(const SelectedAttentionParams& params);
  absl::Status RunMass(const AttentionMassParams& params);

  // For whoever plans and launches attention otherwise, one operation after the
  // other.
  const AttentionDevice& device() const { return device_; }
  float* states() const { return reinterpret_cast<float*>(states_.data()); }

 private:
  // Run or RunSelected.
  template <typename Params>
  absl::Status Attend(const Params& params);
  // Launches plan_, for the sizes of tiles that it has.
  absl::Status Launch(AttentionLaunch launch);

  CudaStreams& streams_;
  StagingRing& ring_;
  const AttentionDevice device_;
  const DeviceMemory states_;
  AttentionPlan plan_;
  Workspace mass_;  // of RunMass: workspace, then result
};

}  // namespace sentencekv
