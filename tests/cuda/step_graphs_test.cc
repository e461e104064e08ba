// Decode steps that are one CUDA graph: they give the bits of steps without, a
// graph that is not true any more is captured again. Simulated device only.
#include <cstdint>

#include "fmt/format.h"
#include "gtest/gtest.h"
#include "tests/cuda/decoded_scenes.h"

namespace sentencekv {
namespace {

// Orders of threads, blocks and streams; one takes seconds.
constexpr uint64_t kSeeds = 3;

void ExpectSameTransfers(const KvTransfers& a, const KvTransfers& b) {
  EXPECT_EQ(a.hits, b.hits);
  EXPECT_EQ(a.misses, b.misses);
  EXPECT_EQ(a.chosen_hits, b.chosen_hits);
  EXPECT_EQ(a.chosen_misses, b.chosen_misses);
  EXPECT_EQ(a.evictions, b.evictions);
  EXPECT_EQ(a.bytes_to_device, b.bytes_to_device);
  EXPECT_EQ(a.bytes_to_host, b.bytes_to_host);
}

// From one row to five, so that graphs of eight rows have some that are none.
// Rows without a sequence would be counted, and would fetch.
TEST(StepGraphs, GiveWhatStepsWithoutGive) {
  const Scene scene = {.parts = {{Choosing(40), 1, 0},
                                 {Sign(30), 1, 3},
                                 {Blended(40), 4, 5},
                                 {MinMaxWithoutPrior(50), 7, 8},
                                 {Choosing(60), 2, 9}},
                       .num_steps = 14,
                       .num_frames = 400};
  const Outcome without = Decode(scene, 2, ChoosingWay::kDeviceWithoutGraphs);
  EXPECT_EQ(without.graphs.recorded, 0);
  ExpectWhatTheHostGives(scene, kSeeds, [&](const Outcome& graphs) {
    ExpectSame(graphs, without);
    ExpectSameTransfers(graphs.transfers, without.transfers);
    // For 1, 2, 4 and 8 rows, and for one of them again as choices grow.
    EXPECT_EQ(graphs.graphs.recorded, 5);
    EXPECT_EQ(graphs.graphs.repeated, scene.num_steps - 5);
    EXPECT_EQ(graphs.num_choices, scene.num_steps * scene.num_layers);
  });
}

// Where no sentence ends, nothing else is launched.
TEST(StepGraphs, AStepIsOneLaunch) {
  for (const int64_t num_layers : {1, 4}) {
    SCOPED_TRACE(fmt::format("{} layers", num_layers));
    const Scene scene = {
        .parts = {{.options = Choosing(40), .first = 1, .is_endless = true},
                  {.options = Sign(40), .first = 3, .is_endless = true},
                  {.options = Blended(40), .first = 5, .is_endless = true}},
        .num_steps = 6,
        .num_frames = 100 * num_layers,
        .num_layers = num_layers};
    const Outcome outcome = Decode(scene, 1, ChoosingWay::kDevice);
    for (size_t step = 1; step < outcome.calls.size(); ++step) {
      EXPECT_EQ(outcome.calls[step].graph_launches, 1) << "step " << step;
      EXPECT_EQ(outcome.calls[step].kernels, 0) << "step " << step;
      EXPECT_EQ(outcome.calls[step].waits, 1) << "step " << step;
    }
    EXPECT_EQ(outcome.graphs.recorded, 1);
  }
}

// The graph of one row before and after a prompt that takes larger workspaces
// than any step before.
TEST(StepGraphs, AreCapturedAgainWhenMemoryHasMoved) {
  const Scene scene = {.parts = {{.options = Choosing(40), .first = 1},
                                 {.options = Choosing(40),
                                  .first = 5,
                                  .first_step = 4,
                                  .num_steps = 0,
                                  .comes_late = true}},
                       .num_steps = 8};
  ExpectWhatTheHostGives(scene, kSeeds, [&](const Outcome& graphs) {
    EXPECT_EQ(graphs.graphs.recorded, 2);
    EXPECT_EQ(graphs.graphs.repeated, scene.num_steps - 2);
  });
}

// And before and after steps of a row whose choices are larger.
TEST(StepGraphs, AreCapturedAgainWhenChoicesHaveGrown) {
  const Scene scene = {.parts = {{.options = Choosing(10), .first = 1},
                                 {.options = Choosing(110),
                                  .first = 5,
                                  .first_step = 3,
                                  .num_steps = 2}},
                       .num_steps = 8,
                       .num_prompt = 200,
                       .num_frames = 400};
  ExpectWhatTheHostGives(scene, kSeeds, [&](const Outcome& graphs) {
    // For one row twice, for two once.
    EXPECT_EQ(graphs.graphs.recorded, 3);
    EXPECT_EQ(graphs.graphs.repeated, scene.num_steps - 3);
  });
}

}  // namespace
}  // namespace sentencekv
