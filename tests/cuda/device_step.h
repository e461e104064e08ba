// A PagedStep in device memory, and what the attention kernels make of it.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/paged_kv.h"
#include "tests/support/cuda_sim/sim_device.h"
#include "tests/support/paged_sequences.h"

namespace sentencekv {

// A pool as CUDA keeps it: K of each run turned from [D][P] to [P][D].
std::vector<std::byte> TurnedPool(const KvLayerView& view);

// What the CPU is to be given for qkv: q as the device rounds it, where it does
// (attention_kernels.h). What is left then is how the weights are rounded.
std::vector<float> RoundedActivations(const PagedStep& step);

// Expects attention like the CPU's. f32 arithmetic on either side may make a
// difference of `tolerance`, times the largest value: attention_test.cc says
// what it comes to on the CPU. On tensor cores weights are rounded, each by a
// factor of 1 + e with |e| <= u / (1 + u), u = 2^-8 (bf16) or 2^-11 (f16), and
// normalised by the sum of what they became. So the result changes by
//   |sum w e (v - out)| / (1 - u / (1 + u)) <= u (max |v| + |out|)
void ExpectAttention(const PagedStep& step, const std::vector<float>& out,
                     const std::vector<float>& expected,
                     double tolerance = 8e-6);

class DeviceStep {
 public:
  DeviceStep(cuda_sim::SimDevice& device, const PagedStep& step);

  const PagedStep& step() const { return step_; }
  PagedKv kv() const { return MakePagedKv(view_); }
  // Attention of the whole step, or of selections; rows that nothing is chosen
  // for stay 7.
  std::vector<float> Attend(const AttentionDevice& how) const;
  // The same, with each sequence cut into several of `num_rows` rows.
  std::vector<float> AttendInPieces(int64_t num_rows,
                                    const AttentionDevice& how) const;
  std::vector<float> Attend(const std::vector<SelectedTokens>& selections,
                            const AttentionDevice& how) const;
  // The same, where pages name runs of K and V.
  std::vector<float> AttendPerHead(
      const std::vector<SelectedTokens>& selections,
      const AttentionDevice& how) const;

 private:
  AttentionPlan PlanOf(const std::vector<SelectedTokens>& selections,
                       const AttentionDevice& how) const;
  std::vector<float> Run(const PagedKv& kv, const AttentionPlan& plan,
                         const AttentionDevice& how) const;

  cuda_sim::SimDevice& device_;
  const PagedStep& step_;
  AttentionParams params_;  // of the step
  const float* qkv_;
  KvLayerView view_;  // of the device's pool
};

}  // namespace sentencekv
