// Rows of the policy `sentence` that choose on the device give what they give
// where the host chooses, bit for bit, and no layer of theirs waits for the
// host. Simulated device only.
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/cuda/decoded_scenes.h"

namespace sentencekv {
namespace {

// Orders of threads, blocks and streams; one takes seconds.
constexpr uint64_t kSeeds = 4;

// Rows of all kinds in one step, two of which choose on the host.
TEST(DeviceChoosing, GivesWhatTheHostGives) {
  const Scene scene = {.parts = {{Choosing(40), 1, 0},
                                 {Sign(30), 1, 3},
                                 {Blended(40), 4, 1},
                                 {MinMaxWithoutPrior(50), 7, 2},
                                 {Lagging(40), 2, 0},
                                 {Traced(40), 3, 2}}};
  ExpectWhatTheHostGives(scene, kSeeds, [&](const Outcome& device) {
    EXPECT_EQ(device.num_choices, scene.num_steps * scene.num_layers);
    EXPECT_GT(device.transfers.chosen_hits, 0);
    EXPECT_GT(device.transfers.chosen_misses, 0);
  });
}

// The frames suffice for 16 slots in both layers, but not for the 24 that a
// text of more than 256 tokens may need: the host takes over, and knows what
// the device chose last.
TEST(DeviceChoosing, IsGivenToTheHostWhereFramesAreTooFew) {
  const Scene scene = {.parts = {{Blended(150), 1}},
                       .num_steps = 24,
                       .num_prompt = 245,
                       .num_frames = kSceneContext / kPageTokens + 40};
  ExpectWhatTheHostGives(scene, kSeeds, [&](const Outcome& device) {
    // At positions 245 to 255.
    EXPECT_EQ(device.num_choices, 11 * scene.num_layers);
  });
}

// With memory for one of them, the others choose on the host.
TEST(DeviceChoosing, SharesTooLittleMemory) {
  const Scene scene = {
      .parts = {{Blended(40), 1, 0}, {Sign(60), 5, 1}, {Choosing(30), 9, 4}},
      .num_frames = kSceneContext / kPageTokens + 20};
  ExpectWhatTheHostGives(scene, kSeeds, [&](const Outcome& device) {
    EXPECT_GT(device.num_choices, 0);
    EXPECT_GT(device.transfers.evictions, 0);
  });
}

// At the 65th sentence entries get other memory, in the midst of a step.
TEST(DeviceChoosing, FindsEntriesThatWereMoved) {
  const Scene scene = {.parts = {{Choosing(40), -1}},
                       .num_steps = 16,
                       .num_prompt = 250,
                       .num_frames = 400};
  ExpectWhatTheHostGives(scene, kSeeds, [&](const Outcome& device) {
    EXPECT_EQ(device.num_choices, scene.num_steps * scene.num_layers);
    // The device moves them itself.
    EXPECT_EQ(device.waits(), std::vector<int64_t>(16, 1));
  });
}

// For the logits.
TEST(DeviceChoosing, TheHostWaitsOnceAStepHoweverManyLayers) {
  for (const int64_t num_layers : {1, 2, 5}) {
    SCOPED_TRACE(testing::Message() << num_layers << " layers");
    Scene scene = {
        .parts = {{Choosing(40), 1}, {Sign(40), 3}, {Blended(40), 5}},
        .num_steps = 3,
        .num_layers = num_layers};
    scene.num_frames = 100 * num_layers;
    const Outcome device = Decode(scene, 1, ChoosingWay::kDevice);
    EXPECT_EQ(device.waits(), std::vector<int64_t>(3, 1));
    // Where the host chooses it waits for the scores of each layer.
    EXPECT_EQ(Decode(scene, 1, ChoosingWay::kHost).waits(),
              std::vector<int64_t>(3, 1 + num_layers));
  }
}

}  // namespace
}  // namespace sentencekv
