// Decode steps that are captured or launched as a graph when a call of the
// runtime fails: the step ends with a status, and nothing is lost for the
// others. Simulated device only.
#include <algorithm>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "fmt/format.h"
#include "gtest/gtest.h"
#include "kernels/status_macros.h"
#include "tests/cuda/decoded_scenes.h"
#include "tests/support/cuda_sim/cuda_sim.h"
#include "tests/support/cuda_sim/nothing_left.h"

namespace sentencekv {
namespace {

using Logits = std::vector<float>;

const Scene& OneRow() {
  static const Scene scene = {
      .parts = {{.options = Blended(40), .first = 1, .is_endless = true}},
      .num_prompt = 96,
      .num_frames = 100,
      .num_layers = 1};
  return scene;
}

class Machine {
 public:
  Machine()
      : runner_(SceneModel(OneRow()),
                SceneMemory(OneRow(), ChoosingWay::kDevice)),
        policy_(ScenePolicy(runner_.model().info())),
        text_(SceneText(OneRow(), OneRow().parts[0])) {}

  // Computes the prompt of a new sequence.
  size_t Begin() {
    const int64_t num_prompt = OneRow().num_prompt;
    const size_t sequence =
        runner_.Add(*policy_, OneRow().parts[0].options, num_prompt);
    runner_.Step(sequence, std::span(text_).first(num_prompt));
    return sequence;
  }
  void End(size_t sequence) { runner_.End(sequence); }

  absl::StatusOr<Logits> Decode(size_t index) {
    CachedSequence& sequence = runner_.sequence(index);
    const int64_t missing =
        PagesFor(sequence.num_tokens + 1) - std::ssize(sequence.pages);
    if (missing > 0) {
      SKV_RETURN_IF_ERROR(runner_.pool().Take(missing, &sequence.pages));
    }
    const ForwardSequence row = {
        &sequence, policy_.get(),
        std::span(text_).subspan(static_cast<size_t>(sequence.num_tokens), 1),
        1};
    std::span<const float> logits;
    SKV_RETURN_IF_ERROR(
        runner_.model().Forward({&row, 1}, runner_.memory(), &logits));
    return Logits(logits.begin(), logits.end());
  }

 private:
  ModelRunner runner_;
  const std::unique_ptr<KvPolicy> policy_;
  const std::vector<int32_t> text_;
};

constexpr int kSteps = 3;

std::vector<Logits> DecodeSteps(Machine& machine, size_t sequence) {
  std::vector<Logits> all;
  for (int step = 0; step < kSteps; ++step) {
    all.push_back(machine.Decode(sequence).value());
  }
  return all;
}

// By the function that fails.
class GraphFaults : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(
    Functions, GraphFaults,
    testing::Values("cudaStreamBeginCapture", "cudaStreamEndCapture",
                    "cudaGraphInstantiate", "cudaGraphLaunch",
                    "cudaLaunchKernelEx", "cublasLtMatmul", "cudaEventRecord",
                    "cudaStreamWaitEvent", "cudaMemsetAsync",
                    "cudaMemcpyAsync"),
    [](const auto& info) { return std::string(info.param); });

// At its first, a middle and its last use in the step that captures, and in the
// next one.
TEST_P(GraphFaults, FailTheStepAndNothingElse) {
  const std::string function = GetParam();
  cuda_sim::Reset({});
  std::vector<Logits> expected;
  std::vector<int64_t> num_calls;  // of the function, by step
  {
    Machine machine;
    const size_t sequence = machine.Begin();
    machine.Begin();
    for (int step = 0; step < kSteps; ++step) {
      const int64_t before = cuda_sim::CallsOf(function);
      expected.push_back(machine.Decode(sequence).value());
      num_calls.push_back(cuda_sim::CallsOf(function) - before);
    }
  }
  ASSERT_GT(num_calls[0], 0);
  for (const int step : {0, 1}) {
    const int64_t last = num_calls[static_cast<size_t>(step)];
    for (const int64_t n : std::set<int64_t>{1, (last + 1) / 2, last}) {
      if (n < 1 || n > last) continue;
      SCOPED_TRACE(fmt::format("step {}, call {} of {}", step, n, last));
      cuda_sim::Reset({});  // the same order, and so the same calls
      {
        Machine machine;
        const size_t failing = machine.Begin();
        const size_t other = machine.Begin();
        for (int i = 0; i < step; ++i) {
          ASSERT_TRUE(machine.Decode(failing).ok());
        }
        cuda_sim::FailCall(function, n);
        EXPECT_FALSE(machine.Decode(failing).ok());
        machine.End(failing);
        EXPECT_EQ(DecodeSteps(machine, other), expected);
        EXPECT_EQ(DecodeSteps(machine, machine.Begin()), expected);
      }
      cuda_sim::ExpectNothingFound();
      const cuda_sim::LiveObjects left = cuda_sim::CountLiveObjects();
      EXPECT_EQ(left.device_bytes + left.pinned_bytes, 0);
      EXPECT_EQ(left.streams + left.events + left.graphs, 0);
      if (HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace sentencekv
