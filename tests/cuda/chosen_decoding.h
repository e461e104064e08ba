// Decode steps of two texts that score, choose, gather and attend in one graph,
// captured once; and attention where all pages lie on the device and the host
// chooses.
#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/paged_kv.h"
#include "kernels/sentence_block.h"
#include "tests/cuda/choice_steps.h"
#include "tests/cuda/scored_rows.h"

namespace sentencekv {

class ChosenDecoding {
 public:
  static constexpr int64_t kLayers = 2;
  static constexpr int64_t kRows = 2;

  ChosenDecoding(cuda_sim::SimDevice& device, uint32_t seed,
                 const std::array<SentenceIndexKind, kRows>& kinds);

  void Capture();
  // The texts grow, and the graph is launched.
  void LaunchStep();
  void ExpectTheHostsAttention();

 private:
  struct Text {
    std::vector<int32_t> lengths;  // of closed sentences
    int64_t open = 1;
  };

  void Grow();
  AttentionLaunch SlotAttention(int64_t layer) const;
  // Of one choice, with all pages on the device.
  std::vector<float> WholeAttention(int64_t layer, int64_t choice,
                                    const ChoiceLists& lists);

  cuda_sim::SimDevice& device_;
  std::mt19937 random_;
  cudaStream_t side_;
  DeviceChoices choices_;
  std::vector<HostChoice> hosts_;  // [rows][KV heads][layers]
  std::vector<Text> texts_;
  std::vector<ChoiceRow> rows_;
  std::vector<ScoredRow> scored_;
  ScoredRows scores_;
  float* qkv_;
  float* out_[kLayers];
  float* states_;
  std::byte* pool_;       // pinned
  std::byte* all_pages_;  // of the pool, on the device
  // Of slots, and behind them each page as a whole: what was written lately.
  std::byte* runs_[kLayers];
  QueryTile* tiles_;
  cudaGraphExec_t step_ = nullptr;
};

}  // namespace sentencekv
