// What the launches of a decode step do to memory that the policy `sentence`
// has instead of exact attention: on the simulated device, for one sequence and
// one layer, as docs/cuda.md has it under "Choosing on the device".
#pragma once

#include <cstdint>

#include "kernels/cuda/choose_kernels.h"
#include "kernels/sentence_block.h"
#include "tests/bench/counted_device.h"
#include "tests/bench/text_layout.h"

namespace sentencekv {

// Scoring all sentences.
OperationCounts CountScoring(const TextLayout& text, SentenceIndexKind kind);
// What choosing does more where it looks at signs.
OperationCounts CountSigns(const TextLayout& text);
// Making the entry of one sentence of kMeanSentence tokens.
OperationCounts CountIndexing(SentenceIndexKind kind);

struct ChoosingCounts {
  int64_t num_steps = 0;
  // In one layer: of all steps, and attention of the last.
  OperationCounts choosing;
  OperationCounts attention;
  // What the host writes for all layers, of all steps.
  OperationCounts outside;
  ChoiceCounts choices;  // of all steps and KV heads
  // Of one KV head: twice the most pages that a step had in slots.
  int64_t num_slots = 0;
};
// Choosing, gathering and attending, in steps that each want a tenth of their
// sentences anew. Fails if a choice raised a flag, or the gathering read other
// host memory than the choices asked for.
ChoosingCounts CountChoosing(const TextLayout& text, uint64_t seed);

// Device memory that a sequence holds, in all layers.
struct SequenceMemory {
  int64_t index = 0;        // entries, and signs
  int64_t prior = 0;        // a number for each entry
  int64_t slots = 0;        // K and V
  int64_t whole_pages = 0;  // K and V: sink, recent tokens, open sentence
  int64_t tables = 0;       // of slots
  int64_t lists = 0;        // ends of sentences, pages
};
SequenceMemory MemoryOf(const TextLayout& text, SentenceIndexKind kind,
                        int64_t num_slots);

}  // namespace sentencekv
