#include "tests/bench/chosen_layer.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "cache/sentence_settings.h"
#include "kernels/cuda/gather_kernels.h"
#include "kernels/rounding.h"
#include "tests/bench/llama_shape.h"

namespace sentencekv {
namespace {

using Shape = LlamaShape;

constexpr int64_t kBudget = 2048;
constexpr size_t kOneInNew = 10;
constexpr float kScale = 0.088f;
constexpr int64_t kProcessors = 132;  // of an H100
constexpr int64_t kChoices = Shape::kKvHeads;

int64_t MostParts(const ChoiceRoom& room) {
  return CeilDiv(room.most_chosen * kPageTokens, kAttentionPartitionTokens);
}

}  // namespace

ChoiceRoom RoomFor(const TextLayout& text) {
  return {.most_sentences = RoundUp(text.num_sentences(), 32),
          .most_pages = RoundUp(text.num_pages(), 32)};
}

int64_t NumTokensRefined() { return NumRefined(kBudget); }

int64_t HeadEntryBytes(SentenceIndexKind kind, int64_t num_entries) {
  return SentenceBlocks(num_entries) *
         SentenceBlockBytes(kind, Shape::kHeadDim);
}

int64_t HeadSignBytes(SentenceIndexKind kind, int64_t num_pages) {
  return kind == SentenceIndexKind::kSign
             ? num_pages * SignStripBytes(Shape::kHeadDim)
             : 0;
}

ChosenLayer::ChosenLayer(const TextLayout& text, SentenceIndexKind kind,
                         int64_t num_slots, uint64_t seed)
    : text_(text), room_(RoomFor(text)), random_(seed) {
  Must(cudaStreamCreateWithFlags(&side_, cudaStreamNonBlocking));
  Must(cudaEventCreateWithFlags(&chosen_, cudaEventDisableTiming));
  Must(cudaEventCreateWithFlags(&gathered_, cudaEventDisableTiming));
  const KvLayout page = LayerPages(1);
  const int64_t pages = text.num_pages();
  pool_ = device_.Pinned<std::byte>(pages * page.page_bytes());
  runs_ = device_.Device<std::byte>(
      Shape::kKvHeads * (num_slots + text.NumWholePages()) * page.head_bytes());
  qkv_ = device_.Zeros<float>(Shape::kQkvWidth);
  out_ = device_.Device<float>(Shape::kHeads * Shape::kHeadDim);
  states_ = device_.Device<float>(kChoices * MostParts(room_) * Shape::kGroup *
                                  AttentionStateFloats(Shape::kHeadDim));
  device_row_ = device_.Device<ChoosingRow>(1);
  device_scoring_row_ = device_.Device<ScoringRow>(1);
  const int64_t lists = kChoices * room_.most_chosen;
  choose_ = {
      .rows = device_row_,
      .num_rows = 1,
      .num_kv_heads = Shape::kKvHeads,
      .scoring = {.rows = device_scoring_row_,
                  .qkv = qkv_,
                  .num_heads = Shape::kGroup,
                  .head_dim = Shape::kHeadDim,
                  .scale = kScale,
                  .num_processors = kProcessors,
                  .exponents = device_.Device<float>(
                      kChoices * (Shape::kGroup + 1) * room_.most_sentences)},
      .most_sentences = room_.most_sentences,
      .most_pages = room_.most_pages,
      .most_chosen = room_.most_chosen,
      .most_slots = num_slots,
      .token_bytes = page.head_bytes() / kPageTokens,
      .num_pages = device_.Device<int32_t>(kChoices),
      .pages = device_.Device<int32_t>(lists),
      .runs = device_.Device<int32_t>(lists),
      .masks = device_.Device<uint16_t>(lists),
      .fetched = device_.Device<uint16_t>(lists),
      .num_missing = device_.Device<int32_t>(kChoices),
      .missing = device_.Device<MissingRun>(lists),
      .counts = device_.Upload(std::vector<ChoiceCounts>(kChoices)),
      .tiles_per_choice = 1};
  FillPlaces(num_slots);
  FillEntries(kind);
  FillTiles();
}

// The sequence's tables: no slot has a page.
void ChosenLayer::FillPlaces(int64_t num_slots) {
  const int64_t table_bytes = HeadTableBytes(num_slots, room_.most_sentences);
  std::vector<std::byte> tables(
      static_cast<size_t>(Shape::kKvHeads * table_bytes));
  for (int64_t slot = 0; slot < Shape::kKvHeads * num_slots; ++slot) {
    const RunSlot empty = {.run = static_cast<int32_t>(slot)};
    std::memcpy(tables.data() + slot / num_slots * table_bytes +
                    slot % num_slots * sizeof(RunSlot),
                &empty, sizeof(empty));
  }
  std::vector<int32_t> host_pages(static_cast<size_t>(room_.most_pages));
  std::iota(host_pages.begin(), host_pages.end(), 0);
  std::vector<int32_t> whole(static_cast<size_t>(room_.most_pages), -1);
  int64_t next_run = Shape::kKvHeads * num_slots;
  for (int64_t page = 0; page < text_.num_pages(); ++page) {
    if (!text_.IsWhole(page)) continue;
    whole[page] = static_cast<int32_t>(next_run);
    next_run += Shape::kKvHeads;
  }
  row_ = {.num_tokens = static_cast<int32_t>(text_.num_tokens),
          .num_sentences = static_cast<int32_t>(text_.num_sentences()),
          .budget = kBudget,
          .num_sink = kSinkTokens,
          .num_recent = kRecentTokens,
          .use = 0,
          .num_slots = static_cast<int32_t>(num_slots),
          .ends = device_.Upload(text_.ends),
          .host_pages = device_.Upload(host_pages),
          .whole_pages = device_.Upload(whole),
          .tables = device_.Upload(tables)};
}

void ChosenLayer::FillEntries(SentenceIndexKind kind) {
  const int64_t sentences = text_.num_sentences();
  const int64_t block_bytes = HeadEntryBytes(kind, sentences);
  const int64_t sign_bytes = HeadSignBytes(kind, text_.num_pages());
  scoring_row_ = {
      .kind = kind,
      .blocks = device_.Zeros<std::byte>(Shape::kKvHeads * block_bytes),
      .block_stride = block_bytes,
      .signs = sign_bytes == 0
                   ? nullptr
                   : device_.Zeros<std::byte>(Shape::kKvHeads * sign_bytes),
      .sign_stride = sign_bytes,
      .num_refined = NumRefined(kBudget),
      .prior = device_.Zeros<float>(Shape::kKvHeads * sentences),
      .num_prior = sentences};
}

void ChosenLayer::FillTiles() {
  const int64_t parts = MostParts(room_);
  std::vector<QueryTile> tiles;
  for (int64_t i = 0; i < kChoices; ++i) {
    tiles.push_back({.page_begin = i * room_.most_chosen,
                     .num_queries = Shape::kGroup,
                     .kv_head = static_cast<int32_t>(i),
                     .first_part = static_cast<int32_t>(i * parts),
                     .first_state = i * parts * Shape::kGroup});
  }
  tiles_ = device_.Upload(tiles);
  choose_.tiles = tiles_;
}

void ChosenLayer::WriteRow() {
  ++row_.use;
  device_.Write(device_row_, std::vector{row_});
  device_.Write(device_scoring_row_, std::vector{scoring_row_});
}

void ChosenLayer::Score() { Must(LaunchScoreRows(choose_, device_.stream())); }

void ChosenLayer::DrawScores(Head* head) {
  const auto sentences = static_cast<size_t>(text_.num_sentences());
  const auto draw = [&](size_t i, bool is_high) {
    head->is_high[i] = is_high;
    head->scores[i] =
        static_cast<float>(random_.Below(1 << 20)) * 0x1p-20f + is_high;
  };
  const auto rise = [&] {
    size_t i = random_.Below(sentences);
    while (head->is_high[i]) i = random_.Below(sentences);
    draw(i, true);
  };
  if (head->scores.empty()) {
    head->scores.resize(sentences);
    head->is_high.resize(sentences);
    for (size_t i = 0; i < sentences; ++i) draw(i, false);
    const int64_t num_high =
        kBudget * std::ssize(text_.ends) / text_.ends.back();
    for (int64_t i = 0; i < num_high; ++i) rise();
    return;
  }
  int64_t num_fallen = 0;
  for (size_t i = 0; i < sentences; ++i) {
    if (!head->is_high[i] || random_.Below(kOneInNew) != 0) continue;
    draw(i, false);
    ++num_fallen;
  }
  for (int64_t i = 0; i < num_fallen; ++i) rise();
}

void ChosenLayer::WriteExponents() {
  heads_.resize(Shape::kKvHeads);
  std::vector<float> all;
  for (Head& head : heads_) {
    DrawScores(&head);
    for (int64_t query_head = 0; query_head < Shape::kGroup; ++query_head) {
      all.insert(all.end(), head.scores.begin(), head.scores.end());
      all.resize(all.size() + room_.most_sentences - head.scores.size());
    }
    all.resize(all.size() + room_.most_sentences);  // of a first look
  }
  device_.Write(choose_.scoring.exponents, all);
}

void ChosenLayer::Choose() {
  const KvLayout page = LayerPages(text_.num_pages());
  const cudaStream_t stream = device_.stream();
  Must(LaunchChoose(choose_, stream));
  Must(cudaEventRecord(chosen_, stream));
  Must(cudaStreamWaitEvent(side_, chosen_, 0));
  Must(LaunchGatherRuns({.missing = choose_.missing,
                         .num_missing = choose_.num_missing,
                         .num_lists = kChoices,
                         .most_missing = room_.most_chosen,
                         .pool = MakePagedKv({pool_, page}),
                         .runs = runs_},
                        side_));
  Must(cudaEventRecord(gathered_, side_));
  Must(cudaStreamWaitEvent(stream, gathered_, 0));
}

void ChosenLayer::Attend() {
  const KvLayout page = LayerPages(1);
  Must(LaunchAttention({.qkv = qkv_,
                        .out = out_,
                        .kv = MakePagedKv({runs_, page, /*is_per_head=*/true}),
                        .num_heads = Shape::kHeads,
                        .scale = kScale,
                        .pages = choose_.runs,
                        .masks = choose_.masks,
                        .tiles = tiles_,
                        .num_tiles = kChoices,
                        .num_parts = kChoices * MostParts(room_),
                        .num_kv_heads = 1,
                        .states = states_,
                        .has_cut_tiles = true},
                       device_.stream()));
}

ChoiceCounts ChosenLayer::TakeCounts(int64_t* most_in_slots) {
  ChoiceCounts sum;
  *most_in_slots = 0;
  for (const ChoiceCounts& of_head :
       device_.Download(choose_.counts, kChoices)) {
    sum += of_head;
    if (of_head.flags != 0) FailCounting("a choice raised a flag");
    *most_in_slots = std::max(*most_in_slots, of_head.hits + of_head.misses);
  }
  device_.Write(choose_.counts, std::vector<ChoiceCounts>(kChoices));
  return sum;
}

}  // namespace sentencekv
