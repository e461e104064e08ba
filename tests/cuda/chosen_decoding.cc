#include "tests/cuda/chosen_decoding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/gather_kernels.h"

namespace sentencekv {
namespace {

constexpr int64_t kLayers = ChosenDecoding::kLayers;
constexpr int64_t kRows = ChosenDecoding::kRows;
constexpr int64_t kKvHeads = 2;
constexpr int64_t kGroup = 3;
constexpr int64_t kHeads = kGroup * kKvHeads;
constexpr int64_t kDim = 16;
constexpr ChoiceRoom kRoom = {.num_layers = kLayers,
                              .num_kv_heads = kKvHeads,
                              .most_sentences = 64,
                              .most_pages = 64,
                              .most_chosen = 40,
                              .most_slots = 80};
// Pages of the pool: sequence r has page r of every pair, backwards.
constexpr KvLayout kPool = {.num_layers = kLayers,
                            .num_pages = kRows * kRoom.most_pages,
                            .num_kv_heads = kKvHeads,
                            .head_dim = kDim,
                            .dtype = DType::kBF16};

constexpr ScoredShape kScored = {
    .room = kRoom, .num_heads = kGroup, .head_dim = kDim};
constexpr int64_t kMostParts =
    (kRoom.most_chosen * kPageTokens + kAttentionPartitionTokens - 1) /
    kAttentionPartitionTokens;

int32_t HostPage(int64_t row, int64_t page) {
  return static_cast<int32_t>((kRoom.most_pages - 1 - page) * kRows + row);
}

PagedKv Runs(std::byte* base) {
  KvLayout layout = kPool;
  layout.num_pages *= kKvHeads;
  return MakePagedKv({base, layout, /*is_per_head=*/true});
}

// Half of the first text's sentences have a prior, the second's queries are
// blended too.
std::vector<ScoredRow> Scored(
    const std::array<SentenceIndexKind, kRows>& kinds) {
  std::vector<ScoredRow> rows;
  for (int64_t r = 0; r < kRows; ++r) {
    rows.push_back({.kind = kinds[static_cast<size_t>(r)],
                    .has_prior = r == 0,
                    .has_blend = r == 1,
                    .query_row = r,
                    .num_prior = 11});
  }
  return rows;
}

}  // namespace

ChosenDecoding::ChosenDecoding(
    cuda_sim::SimDevice& device, uint32_t seed,
    const std::array<SentenceIndexKind, kRows>& kinds)
    : device_(device),
      random_(seed),
      side_(device.NewStream()),
      choices_(device, kRoom, kRows),
      texts_(kRows),
      scored_(Scored(kinds)),
      scores_(device, kScored, scored_, random_) {
  for (int64_t row = 0; row < kRows; ++row) {
    for (int32_t g = 0; g < kKvHeads; ++g) {
      for (int64_t layer = 0; layer < kLayers; ++layer) {
        hosts_.emplace_back(g, choices_.FirstRun(row, layer, g));
      }
    }
    for (int i = 0; i < 22; ++i) {
      texts_[row].lengths.push_back(1 + static_cast<int32_t>(random_() % 20));
    }
  }
  const std::vector<float> values =
      RandomFloats(kPool.total_bytes() / 2, random_);
  std::vector<uint16_t> pool;
  for (const float value : values) {
    pool.push_back(static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
  }
  pool_ = device.Pinned<std::byte>(kPool.total_bytes());
  std::memcpy(pool_, pool.data(), kPool.total_bytes());
  all_pages_ = reinterpret_cast<std::byte*>(device.Upload(pool));
  const auto slot_elements =
      static_cast<size_t>(choices_.num_runs() * kPool.head_bytes() / 2);
  const auto layer_elements = static_cast<size_t>(kPool.layer_bytes() / 2);
  for (size_t layer = 0; layer < kLayers; ++layer) {
    std::vector<uint16_t> runs(slot_elements, 0x7fc0);  // NaN
    runs.insert(runs.end(), pool.begin() + layer * layer_elements,
                pool.begin() + (layer + 1) * layer_elements);
    runs_[layer] = reinterpret_cast<std::byte*>(device.Upload(runs));
    out_[layer] = device.Device<float>(kRows * kHeads * kDim);
  }
  qkv_ = device.Device<float>(kRows * kScored.row_width());
  const int64_t num_states = kRows * kKvHeads * kMostParts * kGroup;
  states_ = device.Device<float>(num_states * AttentionStateFloats(kDim));
  std::vector<QueryTile> tiles;
  for (int64_t i = 0; i < kRows * kKvHeads; ++i) {
    tiles.push_back({.row_begin = i / kKvHeads,
                     .page_begin = i * kRoom.most_chosen,
                     .num_queries = kGroup,
                     .kv_head = static_cast<int32_t>(i % kKvHeads),
                     .first_part = static_cast<int32_t>(i * kMostParts),
                     .first_state = i * kMostParts * kGroup});
  }
  tiles_ = device.Upload(tiles);
}

AttentionLaunch ChosenDecoding::SlotAttention(int64_t layer) const {
  return {.qkv = qkv_,
          .out = out_[layer],
          .kv = Runs(runs_[layer]),
          .num_heads = kHeads,
          .scale = 0.25f,
          .pages = choices_.launch().runs,
          .masks = choices_.launch().masks,
          .tiles = tiles_,
          .num_tiles = kRows * kKvHeads,
          .num_parts = kRows * kKvHeads * kMostParts,
          .num_kv_heads = 1,
          .states = states_,
          .has_cut_tiles = true};
}

void ChosenDecoding::Capture() {
  const cudaStream_t stream = device_.stream();
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal),
            cudaSuccess);
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    ChooseLaunch choose = choices_.launch();
    choose.layer = layer;
    choose.tiles = tiles_;
    choose.tiles_per_choice = 1;
    choose.scores = nullptr;
    choose.scoring = scores_.Scoring(qkv_);
    ASSERT_EQ(LaunchScoreRows(choose, stream), cudaSuccess);
    ASSERT_EQ(LaunchChoose(choose, stream), cudaSuccess);
    const cudaEvent_t chosen = device_.NewEvent();
    const cudaEvent_t gathered = device_.NewEvent();
    ASSERT_EQ(cudaEventRecord(chosen, stream), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(side_, chosen, 0), cudaSuccess);
    ASSERT_EQ(
        LaunchGatherRuns(
            {.missing = choose.missing,
             .num_missing = choose.num_missing,
             .num_lists = kRows * kKvHeads,
             .most_missing = kRoom.most_chosen,
             .pool = MakePagedKv({pool_ + layer * kPool.layer_bytes(), kPool}),
             .runs = runs_[layer],
             .num_blocks = 2},
            side_),
        cudaSuccess);
    ASSERT_EQ(cudaEventRecord(gathered, side_), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(stream, gathered, 0), cudaSuccess);
    ASSERT_EQ(LaunchAttention(SlotAttention(layer), stream), cudaSuccess);
  }
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&step_, graph, 0), cudaSuccess);
}

void ChosenDecoding::Grow() {
  rows_.resize(kRows);
  for (int64_t r = 0; r < kRows; ++r) {
    Text& text = texts_[r];
    const uint32_t use = rows_[r].use;
    const bool was_scored = rows_[r].num_tokens > rows_[r].limits.num_dense;
    if (was_scored) ++scored_[r].num_summed;
    text.open += 1 + static_cast<int64_t>(random_() % 9);
    if (random_() % 2 == 0) {
      text.lengths.push_back(static_cast<int32_t>(text.open));
      text.open = 1;
      scored_[r].num_summed = 0;
    }
    // The second text is read as a whole at first.
    ChoiceRow row = RowOf(text.lengths, text.open,
                          {.budget = 120,
                           .num_sink = 4,
                           .num_recent = 20,
                           .num_dense = r == 1 ? 260 : 0});
    for (int64_t page = 0; page < std::ssize(row.host_pages); ++page) {
      row.host_pages[page] = HostPage(r, page);
    }
    row.use = use + 1;
    row.num_slots = kRoom.most_slots;
    row.reuse_factor = 1.5f;
    // The page that the row is written to.
    row.whole_pages.assign(row.host_pages.size(), -1);
    row.whole_pages.back() = static_cast<int32_t>(
        choices_.num_runs() + row.host_pages.back() * kKvHeads);
    rows_[r] = row;
  }
}

void ChosenDecoding::LaunchStep() {
  Grow();
  choices_.SetRows(rows_);
  scores_.SetRows(scored_);
  const auto qkv = RandomFloats(kRows * kScored.row_width(), random_);
  ASSERT_EQ(
      cudaMemcpyAsync(qkv_, device_.Upload(qkv), qkv.size() * sizeof(float),
                      cudaMemcpyDeviceToDevice, device_.stream()),
      cudaSuccess);
  ASSERT_EQ(cudaGraphLaunch(step_, device_.stream()), cudaSuccess);
}

std::vector<float> ChosenDecoding::WholeAttention(int64_t layer, int64_t choice,
                                                  const ChoiceLists& lists) {
  const int64_t row = choice / kKvHeads;
  const int64_t kv_head = choice % kKvHeads;
  std::vector<int32_t> runs;
  for (const int32_t page : lists.pages) {
    runs.push_back(
        static_cast<int32_t>(HostPage(row, page) * kKvHeads + kv_head));
  }
  const SelectedTokens selection = {.row = row,
                                    .kv_head = kv_head,
                                    .pages = runs.data(),
                                    .masks = lists.masks.data(),
                                    .num_pages = std::ssize(runs)};
  KvLayout layout = kPool;
  layout.num_pages *= kKvHeads;
  AttentionPlan plan;
  PlanAttention({.kv = {nullptr, layout, true},
                 .selections = &selection,
                 .num_selections = 1,
                 .num_heads = kHeads},
                {.num_processors = 1, .state_floats = 0}, &plan);
  float* const out = device_.Upload(std::vector<float>(kRows * kHeads * kDim));
  AttentionLaunch launch = SlotAttention(layer);
  launch.out = out;
  launch.kv = Runs(all_pages_ + layer * kPool.layer_bytes());
  launch.pages = device_.Upload(plan.pages);
  launch.masks = device_.Upload(plan.masks);
  launch.tiles = device_.Upload(plan.few.tiles);
  launch.num_tiles = std::ssize(plan.few.tiles);
  launch.num_parts = plan.few.num_parts;
  launch.has_cut_tiles = plan.few.has_cut_tiles;
  EXPECT_EQ(LaunchAttention(launch, device_.stream()), cudaSuccess);
  return device_.Download(out + (row * kHeads + kv_head * kGroup) * kDim,
                          kGroup * kDim);
}

void ChosenDecoding::ExpectTheHostsAttention() {
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    const auto scores = scores_.HostScores(qkv_, layer, rows_);
    for (int64_t i = 0; i < kRows * kKvHeads; ++i) {
      const ChoiceLists lists =
          hosts_[i * kLayers + layer].Choose(rows_[i / kKvHeads], scores[i]);
      const std::vector<float> out =
          device_.Download(out_[layer] + i * kGroup * kDim, kGroup * kDim);
      EXPECT_EQ(out, WholeAttention(layer, i, lists))
          << "layer " << layer << " choice " << i;
    }
  }
}

}  // namespace sentencekv
