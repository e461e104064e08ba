// One layer that attends to chosen sentences, step after step.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cuda/choose_kernels.h"
#include "kernels/kv_layout.h"
#include "kernels/sentence_block.h"
#include "tests/bench/counted_device.h"
#include "tests/bench/text_layout.h"
#include "tests/support/cuda_sim/random.h"

namespace sentencekv {

// As ChooseLaunch has it.
struct ChoiceRoom {
  int64_t most_sentences = 0;
  int64_t most_pages = 0;
  int64_t most_chosen = 512;
  int64_t most_slots = 1024;
};
ChoiceRoom RoomFor(const TextLayout& text);

// Of kSign: tokens of a choice whose signs are looked at, but for the rest of a
// bin.
int64_t NumTokensRefined();
// Bytes of the entries of a KV head, and of its signs.
int64_t HeadEntryBytes(SentenceIndexKind kind, int64_t num_entries);
int64_t HeadSignBytes(SentenceIndexKind kind, int64_t num_pages);

// Entries, keys and queries are zeros. Scores are drawn: those of some
// sentences are high, and at each step a tenth of these fall and as many others
// rise.
class ChosenLayer {
 public:
  ChosenLayer(const TextLayout& text, SentenceIndexKind kind, int64_t num_slots,
              uint64_t seed);

  // What the host writes before a step.
  void WriteRow();
  // The step's launches, one after the other; the drawn scores take the place
  // of what scoring left.
  void Score();
  void WriteExponents();
  void Choose();
  void Attend();
  // Sums of all KV heads; the most pages of one that had slots or got them.
  ChoiceCounts TakeCounts(int64_t* most_in_slots);

 private:
  struct Head {
    std::vector<float> scores;
    std::vector<bool> is_high;
  };

  void DrawScores(Head* head);
  void FillPlaces(int64_t num_slots);
  void FillEntries(SentenceIndexKind kind);
  void FillTiles();

  CountedDevice device_;
  const TextLayout& text_;
  const ChoiceRoom room_;
  cuda_sim::Random random_;
  cudaStream_t side_ = nullptr;
  cudaEvent_t chosen_ = nullptr;
  cudaEvent_t gathered_ = nullptr;
  std::vector<Head> heads_;
  ChoosingRow row_;
  ScoringRow scoring_row_;
  ChooseLaunch choose_;
  ChoosingRow* device_row_ = nullptr;
  ScoringRow* device_scoring_row_ = nullptr;
  QueryTile* tiles_ = nullptr;
  std::byte* pool_ = nullptr;  // pinned
  std::byte* runs_ = nullptr;  // of slots, and behind them of whole pages
  const float* qkv_ = nullptr;
  float* out_ = nullptr;
  float* states_ = nullptr;
};

}  // namespace sentencekv
