#include "tests/bench/sentence_traffic.h"

#include <algorithm>

#include "kernels/cuda/sentence_index_kernels.h"
#include "tests/bench/chosen_layer.h"
#include "tests/bench/llama_shape.h"

namespace sentencekv {
namespace {

using Shape = LlamaShape;

constexpr int64_t kStepsBefore = 16;  // until slots are full and make room
constexpr int64_t kStepsCounted = 4;
// What follows the scores is the same for all kinds.
constexpr SentenceIndexKind kKind = SentenceIndexKind::kMean;

}  // namespace

OperationCounts CountScoring(const TextLayout& text, SentenceIndexKind kind) {
  ChosenLayer layer(text, kind, RoomFor(text).most_slots, 1);
  layer.WriteRow();
  return CountsOf([&] { layer.Score(); });
}

OperationCounts CountSigns(const TextLayout& text) {
  const auto choosing = [&](SentenceIndexKind kind) {
    ChosenLayer layer(text, kind, RoomFor(text).most_slots, 1);
    layer.WriteRow();
    layer.WriteExponents();
    return CountOf(CountsOf([&] { layer.Choose(); }), "ChooseKernel");
  };
  cuda_sim::OperationCount signs = choosing(SentenceIndexKind::kSign);
  const cuda_sim::OperationCount means = choosing(SentenceIndexKind::kMean);
  signs.name = "ChooseKernel, signs";
  signs.launches = 0;
  signs.bytes_read -= means.bytes_read;
  signs.bytes_written -= means.bytes_written;
  return {signs};
}

OperationCounts CountIndexing(SentenceIndexKind kind) {
  CountedDevice device;
  constexpr int64_t kPages = 2;
  const KvLayout layout = LayerPages(kPages);
  const int64_t block_bytes = HeadEntryBytes(kind, 1);
  const int64_t sign_bytes = HeadSignBytes(kind, kPages);
  const IndexSentenceTask task = {
      .kind = kind,
      .begin = 0,
      .end = kMeanSentence,
      .blocks = device.Zeros<std::byte>(Shape::kKvHeads * block_bytes),
      .head_stride = block_bytes,
      .signs = sign_bytes == 0
                   ? nullptr
                   : device.Zeros<std::byte>(Shape::kKvHeads * sign_bytes),
      .sign_stride = sign_bytes};
  const IndexSentencesLaunch launch = {
      .kv =
          MakePagedKv({device.Zeros<std::byte>(layout.total_bytes()), layout}),
      .tasks = device.Upload(std::vector{task}),
      .num_tasks = 1,
      .pages = device.Upload(std::vector<int32_t>{0, 1})};
  return CountsOf([&] { Must(LaunchIndexSentences(launch, device.stream())); });
}

ChoosingCounts CountChoosing(const TextLayout& text, uint64_t seed) {
  ChoosingCounts counts = {.num_steps = kStepsCounted};
  // With more slots than are needed, to see how many are.
  {
    ChosenLayer layer(text, kKind, RoomFor(text).most_slots, seed);
    for (int64_t step = 0; step < kStepsCounted; ++step) {
      layer.WriteRow();
      layer.WriteExponents();
      layer.Choose();
      int64_t most_in_slots = 0;
      (void)layer.TakeCounts(&most_in_slots);
      counts.num_slots = std::max(counts.num_slots, 2 * most_in_slots);
    }
  }
  ChosenLayer layer(text, kKind, counts.num_slots, seed);
  int64_t most_in_slots = 0;
  for (int64_t step = 0; step < kStepsBefore; ++step) {
    layer.WriteRow();
    layer.WriteExponents();
    layer.Choose();
  }
  (void)layer.TakeCounts(&most_in_slots);
  for (int64_t step = 0; step < kStepsCounted; ++step) {
    AddCounts(CountsOf([&] { layer.WriteRow(); }), &counts.outside);
    layer.WriteExponents();
    AddCounts(CountsOf([&] { layer.Choose(); }), &counts.choosing);
  }
  counts.attention = CountsOf([&] { layer.Attend(); });
  counts.choices = layer.TakeCounts(&most_in_slots);
  if (CountOf(counts.choosing, "GatherRunsKernel").host_bytes_read !=
      counts.choices.bytes) {
    FailCounting("the gathering read other bytes than the choices lacked");
  }
  return counts;
}

SequenceMemory MemoryOf(const TextLayout& text, SentenceIndexKind kind,
                        int64_t num_slots) {
  constexpr int64_t kHeads = Shape::kLayers * Shape::kKvHeads;
  const KvLayout page = LayerPages(1);
  const ChoiceRoom room = RoomFor(text);
  return {
      .index = kHeads * (HeadEntryBytes(kind, text.num_sentences()) +
                         HeadSignBytes(kind, text.num_pages())),
      .prior = kHeads * text.num_sentences() * int64_t{sizeof(float)},
      .slots = kHeads * num_slots * page.head_bytes(),
      .whole_pages = Shape::kLayers * text.NumWholePages() * page.page_bytes(),
      .tables = kHeads * HeadTableBytes(num_slots, room.most_sentences),
      // Ends, pages of the pool, and for each layer the pages that are whole.
      .lists = int64_t{sizeof(int32_t)} *
               (room.most_sentences + (1 + Shape::kLayers) * room.most_pages)};
}

}  // namespace sentencekv
