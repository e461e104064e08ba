// Counts what a decode step of Llama-3.1-8B's shape does to memory, on the
// simulated device: tests/tools/roofline.py makes docs/performance.md of it.
//
//   traffic_count TOKENS...
//
// A line of JSON for each kernel and kind of copy:
//
//   part     "dense" for what every policy has, "full" for exact attention,
//            "mean" and "sign" for scores and entries of that index, "chosen"
//            for what follows the scores
//   tokens   of the sequence, with the step's; 0 for "dense"
//   rows     sequences of the step
//   per      "layer": once in each of the layers; "step"
//   steps    that the numbers are the sum of
//
// then one for what was chosen, and one for the device memory of each kind of
// sequence.
#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "tests/bench/chosen_layer.h"
#include "tests/bench/dense_traffic.h"
#include "tests/bench/llama_shape.h"
#include "tests/bench/sentence_traffic.h"

namespace sentencekv {
namespace {

constexpr uint64_t kSeed = 1;

struct Part {
  std::string_view name;
  int64_t tokens = 0;
  int64_t rows = 1;
  std::string_view per = "layer";
  int64_t steps = 1;
};

void Print(const Part& part, const OperationCounts& counts) {
  for (const cuda_sim::OperationCount& count : counts) {
    fmt::print(
        R"({{"part": "{}", "tokens": {}, "rows": {}, "per": "{}", )"
        R"("steps": {}, "name": "{}", "launches": {}, "bytes_read": {}, )"
        R"("bytes_written": {}, "host_bytes_read": {}, )"
        R"("host_bytes_written": {}}})"
        "\n",
        part.name, part.tokens, part.rows, part.per, part.steps, count.name,
        count.launches, count.bytes_read, count.bytes_written,
        count.host_bytes_read, count.host_bytes_written);
  }
}

void PrintDense() {
  fmt::print("{{\"weights\": {}}}\n", LlamaShape::kWeightBytes);
  for (const int64_t rows : {1, 8}) {
    const DenseCounts dense = CountDense(rows);
    Print({"dense", 0, rows, "layer"}, dense.layer);
    Print({"dense", 0, rows, "step"}, dense.outside);
  }
}

void PrintMemory(const TextLayout& text, std::string_view policy,
                 const SequenceMemory& memory) {
  fmt::print(R"({{"memory": "{}", "tokens": {}, "index": {}, "prior": {}, )"
             R"("slots": {}, "whole_pages": {}, "tables": {}, "lists": {}}})"
             "\n",
             policy, text.num_tokens, memory.index, memory.prior, memory.slots,
             memory.whole_pages, memory.tables, memory.lists);
}

void PrintSequence(int64_t tokens) {
  const TextLayout text = DrawText(tokens, kSeed);
  Print({"full", tokens}, CountFullAttention(tokens));
  const ChoosingCounts chosen = CountChoosing(text, kSeed);
  Print({"chosen", tokens, 1, "layer", chosen.num_steps}, chosen.choosing);
  Print({"chosen", tokens}, chosen.attention);
  Print({"chosen", tokens, 1, "step", chosen.num_steps}, chosen.outside);
  const ChoiceCounts& choices = chosen.choices;
  fmt::print(
      R"({{"choices": {}, "tokens": {}, "sentences_of_text": {}, )"
      R"("tokens_refined": {}, "sentences": {}, "attended": {}, "hits": {}, "misses": {}, )"
      R"("evictions": {}, "whole_pages": {}, "bytes": {}, "run_bytes": {}, )"
      R"("slots": {}}})"
      "\n",
      chosen.num_steps * LlamaShape::kKvHeads, tokens, text.num_sentences(),
      NumTokensRefined(), choices.sentences, choices.tokens, choices.hits,
      choices.misses, choices.evictions, choices.whole_pages, choices.bytes,
      LayerPages(1).head_bytes(), chosen.num_slots);

  PrintMemory(text, "full",
              {.whole_pages = LlamaShape::kLayers *
                              LayerPages(text.num_pages()).total_bytes()});
  for (const auto& [name, kind] :
       {std::pair("mean", SentenceIndexKind::kMean),
        std::pair("sign", SentenceIndexKind::kSign)}) {
    Print({name, tokens}, CountScoring(text, kind));
    if (kind == SentenceIndexKind::kSign) {
      Print({name, tokens}, CountSigns(text));
    }
    // A sentence ends once in as many steps as it has tokens.
    Print({name, tokens, 1, "layer", kMeanSentence}, CountIndexing(kind));
    PrintMemory(text, name, MemoryOf(text, kind, chosen.num_slots));
  }
}

}  // namespace
}  // namespace sentencekv

int main(int argc, char** argv) {
  sentencekv::PrintDense();
  for (int i = 1; i < argc; ++i) {
    int64_t tokens = 0;
    const char* const end = argv[i] + std::strlen(argv[i]);
    if (std::from_chars(argv[i], end, tokens).ptr != end || tokens < 4096 ||
        tokens % sentencekv::kAttentionPartitionTokens != 0) {
      sentencekv::FailCounting(
          "usage: traffic_count TOKENS..., multiples of "
          "256 from 4096 on");
    }
    sentencekv::PrintSequence(tokens);
  }
}
