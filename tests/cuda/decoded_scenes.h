// Decode steps of whole models on the simulated device whose rows choose there,
// in graphs or without, or on the host.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cache/kv_memory.h"
#include "cache/kv_policy.h"
#include "gtest/gtest.h"
#include "kernels/backend.h"
#include "tests/support/model_runner.h"

namespace sentencekv {

enum class ChoosingWay : uint8_t { kHost, kDevice, kDeviceWithoutGraphs };

// Tokens of the longest sequence.
inline constexpr int64_t kSceneContext = 320;

// Options of the policy `sentence`; the first is the base of the others.
KvOptions Choosing(int64_t budget);
KvOptions Sign(int64_t budget);
KvOptions MinMaxWithoutPrior(int64_t budget);
KvOptions Blended(int64_t budget);
KvOptions Lagging(int64_t budget);
KvOptions Traced(int64_t budget);

// A sequence, from the decode step on in which it joins the others.
struct Part {
  KvOptions options;
  int64_t first = 0;  // sentence of the story; negative: a rhyme
  int first_step = 0;
  int num_steps = 1000;  // then it does nothing
  // Its prompt comes as late, in one step; else before all decoding, in two.
  bool comes_late = false;
  // Behind its prompt no sentence ends.
  bool is_endless = false;
};

struct Scene {
  std::vector<Part> parts;
  int num_steps = 10;
  int64_t num_prompt = 120;
  int64_t num_frames = 200;
  int64_t num_layers = 2;
};

// Calls of the runtime in one decode step.
struct StepCalls {
  int64_t waits = 0;    // of the host
  int64_t kernels = 0;  // launched outside of graphs
  int64_t graph_launches = 0;
};

// What a scene gave.
struct Outcome {
  std::vector<std::vector<float>> logits;  // of decode steps, by row
  std::vector<ReadCounts> counts;          // of the sequences
  KvTransfers transfers;
  int64_t num_choices = 0;       // launches of LaunchChoose
  std::vector<StepCalls> calls;  // of decode steps
  StepCounts graphs;

  std::vector<int64_t> waits() const;
};

// The model and the memory of a scene.
ModelRunnerOptions SceneMemory(const Scene& scene, ChoosingWay way);
std::string SceneModel(const Scene& scene);
std::unique_ptr<KvPolicy> ScenePolicy(const ModelInfo& info);
std::vector<int32_t> SceneText(const Scene& scene, const Part& part);

Outcome Decode(const Scene& scene, uint64_t seed, ChoosingWay way);
// The same bits, and the same was read.
void ExpectSame(const Outcome& tested, const Outcome& expected);

// What a scene gives where the host chooses, for orders 1.. of threads, blocks
// and streams, and what else the test expects of the device's way.
template <typename Expect>
void ExpectWhatTheHostGives(const Scene& scene, uint64_t num_seeds,
                            Expect&& expect) {
  const Outcome host = Decode(scene, 1, ChoosingWay::kHost);
  EXPECT_EQ(host.num_choices, 0);
  for (uint64_t seed = 1; seed <= num_seeds; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const Outcome device = Decode(scene, seed, ChoosingWay::kDevice);
    ExpectSame(device, host);
    expect(device);
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace sentencekv
