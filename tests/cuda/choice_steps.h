// Decode steps that choose sentences: on the simulated device, and what the
// host's SentenceSelector and ChosenRuns make of the same.
#pragma once

#include <cstdint>
#include <vector>

#include "cache/chosen_runs.h"
#include "cache/sentence_selection.h"
#include "kernels/cuda/choose_kernels.h"
#include "tests/support/cuda_sim/sim_device.h"

namespace sentencekv {

// Capacities of all rows.
struct ChoiceRoom {
  int64_t num_layers = 1;
  int64_t num_kv_heads = 1;
  int64_t most_sentences = 64;
  int64_t most_pages = 32;
  int64_t most_chosen = 32;
  int64_t most_slots = 64;
};

// A sequence at one step.
struct ChoiceRow {
  SelectionLimits limits;
  std::vector<int32_t> ends;
  int64_t num_tokens = 0;
  float reuse_factor = 1;
  uint32_t use = 1;
  int32_t num_slots = 0;
  std::vector<int32_t> host_pages = {};   // [pages]
  std::vector<int32_t> whole_pages = {};  // [pages], of every layer
  std::vector<HeadLimits> heads = {};     // [L * G], or none

  // With the limits of layer l and KV head g, head = l G + g.
  ChoiceRow OfHead(int64_t head) const;
};

// What is chosen in one layer and KV head.
struct ChoiceLists {
  std::vector<int32_t> pages;
  std::vector<int32_t> runs;
  std::vector<uint16_t> masks;
  std::vector<uint16_t> fetched;
  std::vector<MissingRun> missing;
  std::vector<int32_t> sentences;  // rising

  bool operator==(const ChoiceLists&) const;
};

// The host's choices of one row, layer and KV head, step by step.
class HostChoice {
 public:
  // Slot s has run first_run + s.
  HostChoice(int32_t kv_head, int32_t first_run)
      : kv_head_(kv_head), first_run_(first_run) {}

  ChoiceLists Choose(const ChoiceRow& row, std::vector<float> scores);
  // Of all steps.
  const ChoiceCounts& counts() const { return counts_; }

 private:
  std::vector<int32_t> ChooseSentences(const ChoiceRow& row,
                                       std::vector<float>* scores);
  void Place(const ChoiceRow& row, const ChosenPages& chosen,
             ChoiceLists* lists);

  int32_t kv_head_;
  int32_t first_run_;
  SentenceSelector selector_;
  ChosenRuns runs_;
  std::vector<uint16_t> slot_tokens_;
  std::vector<bool> last_;  // by sentence: chosen by the step before
  ChoiceCounts counts_;
};

// Bytes of K and V of a token, as the tests count them.
inline constexpr int64_t kChoiceTokenBytes = 256;

// The device's, for all rows, layers and KV heads.
class DeviceChoices {
 public:
  DeviceChoices(cuda_sim::SimDevice& device, const ChoiceRoom& room,
                int64_t num_rows);

  // The first run of a choice's slots.
  int32_t FirstRun(int64_t row, int64_t layer, int64_t kv_head) const;
  int64_t num_runs() const { return FirstRun(num_rows_, 0, 0); }
  // What the next step reads; the host has waited. Memory stays where it is.
  void SetRows(const std::vector<ChoiceRow>& rows);
  // scores[row * G + kv_head].
  void SetScores(const std::vector<std::vector<float>>& scores);
  const ChooseLaunch& launch() const { return launch_; }
  cudaError_t Choose(int64_t layer);

  std::vector<ChoiceLists> Lists(int64_t layer);
  std::vector<ChoiceCounts> Counts();

 private:
  template <typename T>
  void Overwrite(T* to, const std::vector<T>& values);
  int64_t num_choices() const { return num_rows_ * room_.num_kv_heads; }
  // What the table says for the next step's reuse bonus.
  std::vector<int32_t> KeptSentences(int64_t choice, int64_t layer);
  std::byte* TableOf(int64_t row, int64_t layer, int64_t kv_head) const;

  cuda_sim::SimDevice& device_;
  ChoiceRoom room_;
  int64_t num_rows_;
  std::vector<ChoosingRow> rows_;  // with the device's memory
  ChooseLaunch launch_;
  float* scores_;
  std::vector<int32_t> num_sentences_;  // of each row
};

// A row of sentences of these lengths, an open one of `open` tokens behind.
ChoiceRow RowOf(const std::vector<int32_t>& lengths, int64_t open,
                const SelectionLimits& limits);

}  // namespace sentencekv
