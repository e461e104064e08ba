// A decode step that chooses, gathers and attends, captured once and launched
// while the texts grow: attention gives the bits that it gives where all pages
// lie on the device and the host chooses.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/gather_kernels.h"
#include "tests/cuda/choice_steps.h"
#include "tests/cuda/simulated_device.h"

namespace sentencekv {
namespace {

constexpr int64_t kLayers = 2;
constexpr int64_t kRows = 2;
constexpr int64_t kKvHeads = 2;
constexpr int64_t kHeads = 6;
constexpr int64_t kDim = 16;
constexpr int64_t kRowWidth = (kHeads + 2 * kKvHeads) * kDim;
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

int32_t HostPage(int64_t row, int64_t page) {
  return static_cast<int32_t>((kRoom.most_pages - 1 - page) * kRows + row);
}

std::vector<float> RandomFloats(int64_t count, std::mt19937& random) {
  std::vector<float> values(static_cast<size_t>(count));
  std::normal_distribution<float> normal;
  for (float& value : values) value = normal(random);
  return values;
}

// Two texts, and both ways to attend.
class Decoding {
 public:
  Decoding(cuda_sim::SimDevice& device, uint32_t seed);

  void Capture();
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
  PagedKv Runs(std::byte* base) const {
    KvLayout layout = kPool;
    layout.num_pages *= kKvHeads;
    return MakePagedKv({base, layout, /*is_per_head=*/true});
  }

  cuda_sim::SimDevice& device_;
  std::mt19937 random_;
  cudaStream_t side_;
  DeviceChoices choices_;
  std::vector<HostChoice> hosts_;  // [rows][KV heads][layers]
  std::vector<Text> texts_;
  std::vector<ChoiceRow> rows_;
  std::vector<std::vector<float>> scores_;  // of both layers
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

constexpr int64_t kGroup = kHeads / kKvHeads;
constexpr int64_t kMostParts =
    (kRoom.most_chosen * kPageTokens + kAttentionPartitionTokens - 1) /
    kAttentionPartitionTokens;

Decoding::Decoding(cuda_sim::SimDevice& device, uint32_t seed)
    : device_(device),
      random_(seed),
      side_(device.NewStream()),
      choices_(device, kRoom, kRows),
      texts_(kRows) {
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
  qkv_ = device.Device<float>(kRows * kRowWidth);
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

AttentionLaunch Decoding::SlotAttention(int64_t layer) const {
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

void Decoding::Capture() {
  const cudaStream_t stream = device_.stream();
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal),
            cudaSuccess);
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    ChooseLaunch choose = choices_.launch();
    choose.layer = layer;
    choose.tiles = tiles_;
    choose.tiles_per_choice = 1;
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

void Decoding::Grow() {
  rows_.resize(kRows);
  for (int64_t r = 0; r < kRows; ++r) {
    Text& text = texts_[r];
    const uint32_t use = rows_[r].use;
    text.open += 1 + static_cast<int64_t>(random_() % 9);
    if (random_() % 2 == 0) {
      text.lengths.push_back(static_cast<int32_t>(text.open));
      text.open = 1;
    }
    ChoiceRow row = RowOf(text.lengths, text.open,
                          {.budget = 120, .num_sink = 4, .num_recent = 20});
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

void Decoding::LaunchStep() {
  Grow();
  scores_.clear();
  for (int64_t i = 0; i < kRows * kKvHeads; ++i) {
    scores_.push_back(
        RandomFloats(std::ssize(rows_[i / kKvHeads].ends), random_));
  }
  choices_.SetRows(rows_);
  choices_.SetScores(scores_);
  const auto qkv = RandomFloats(kRows * kRowWidth, random_);
  ASSERT_EQ(
      cudaMemcpyAsync(qkv_, device_.Upload(qkv), qkv.size() * sizeof(float),
                      cudaMemcpyDeviceToDevice, device_.stream()),
      cudaSuccess);
  ASSERT_EQ(cudaGraphLaunch(step_, device_.stream()), cudaSuccess);
}

std::vector<float> Decoding::WholeAttention(int64_t layer, int64_t choice,
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

void Decoding::ExpectTheHostsAttention() {
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    for (int64_t i = 0; i < kRows * kKvHeads; ++i) {
      const ChoiceLists lists =
          hosts_[i * kLayers + layer].Choose(rows_[i / kKvHeads], scores_[i]);
      const std::vector<float> out =
          device_.Download(out_[layer] + i * kGroup * kDim, kGroup * kDim);
      EXPECT_EQ(out, WholeAttention(layer, i, lists))
          << "layer " << layer << " choice " << i;
    }
  }
}

TEST(CudaChosenGraph, StaysTrueWhileTextsGrow) {
  constexpr int64_t kSteps = 5;
  uint32_t seed = 0;
  ForSeeds(3, [&](cuda_sim::SimDevice& device) {
    Decoding decoding(device, ++seed);
    decoding.Capture();
    if (testing::Test::HasFailure()) return;
    std::map<std::string, int64_t> launches;
    for (int64_t step = 0; step < kSteps; ++step) {
      decoding.LaunchStep();
      ASSERT_EQ(cudaStreamSynchronize(device.stream()), cudaSuccess);
      if (step == 0) {
        for (const auto& count : cuda_sim::OperationCounts()) {
          launches[count.name] = count.launches;
        }
      }
      decoding.ExpectTheHostsAttention();
      if (testing::Test::HasFailure()) return;
    }
    // Besides attention itself.
    EXPECT_EQ(launches["ChooseKernel"], kLayers);
    EXPECT_EQ(launches["GatherRunsKernel"], kLayers);
    EXPECT_EQ(launches["MergeKernel"], kLayers);
  });
}

}  // namespace
}  // namespace sentencekv
