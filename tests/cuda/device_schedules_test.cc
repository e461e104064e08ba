// Whole engines on the simulated device: random requests with shared prefixes,
// preemptions and cancels get the same answers, and read the same, whether
// sentences are chosen on the device or by the host.
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/cuda/small_backend.h"
#include "tests/engine/random_schedules.h"
#include "tests/support/cuda_sim/cuda_sim.h"
#include "tests/support/cuda_sim/nothing_left.h"

namespace sentencekv {
namespace {

enum class Way : uint8_t { kHost, kDevice, kDeviceWithoutGraphs };

std::unique_ptr<Backend> MakeBackend(Way way) {
  return MakeSmallBackend(size_t{64} << 10, size_t{64} << 10,
                          /*has_graphs=*/way == Way::kDevice);
}

// Few pages, so that requests make room for each other.
ModelRunnerOptions Memory() {
  ModelRunnerOptions options = ScheduleMemory();
  options.num_pages = kScheduleContextPages + 2;
  return options;
}

struct Outcome {
  std::vector<std::vector<Collected>> answers;  // of the schedules
  ReadCounts reads;
  int64_t num_preemptions = 0;
  int64_t num_reused = 0;
  int64_t num_choices = 0;  // launches of LaunchChoose
  int64_t num_graphs = 0;   // launches of graphs
};

Outcome Serve(const std::vector<Schedule>& schedules, int64_t num_frames,
              uint64_t seed, Way way) {
  Outcome outcome;
  cuda_sim::Reset({.seed = seed});
  {
    ModelRunnerOptions options = Memory();
    options.make_backend = [way] { return MakeBackend(way); };
    options.num_frames = num_frames;
    options.host_chooses = way == Way::kHost;
    ScheduleMachine machine(options);
    for (const Schedule& schedule : schedules) {
      outcome.answers.push_back(machine.Run(schedule));
    }
    outcome.reads = machine.reads();
    outcome.num_preemptions = machine.num_preemptions();
    outcome.num_reused = machine.num_reused();
    outcome.num_graphs = cuda_sim::CallsOf("cudaGraphLaunch");
    for (const auto& count : cuda_sim::OperationCounts()) {
      if (count.name == "ChooseKernel") outcome.num_choices = count.launches;
    }
  }
  cuda_sim::ExpectNothingFound();
  return outcome;
}

// Schedules with preemptions, and prefixes that are found.
std::vector<Schedule> MakeSchedules(int count, uint64_t seed) {
  ScheduleMaker maker(seed);
  ScheduleMachine cpu(Memory());
  std::vector<Schedule> schedules;
  while (std::ssize(schedules) < count) {
    const int64_t num_preemptions = cpu.num_preemptions();
    const int64_t num_reused = cpu.num_reused();
    Schedule schedule = maker.Make();
    cpu.Run(schedule);
    if (cpu.num_preemptions() > num_preemptions &&
        cpu.num_reused() > num_reused) {
      schedules.push_back(std::move(schedule));
    }
  }
  return schedules;
}

// By frames of device memory.
class DeviceSchedules : public testing::TestWithParam<int64_t> {};

void ExpectSame(const std::vector<Schedule>& schedules, const Outcome& expected,
                const Outcome& tested) {
  for (size_t i = 0; i < schedules.size(); ++i) {
    EXPECT_EQ(DifferenceOfAnswers(schedules[i], expected.answers[i],
                                  tested.answers[i]),
              "")
        << "schedule " << i;
  }
  EXPECT_EQ(tested.reads.steps, expected.reads.steps);
  EXPECT_EQ(tested.reads.tokens_attended, expected.reads.tokens_attended);
  EXPECT_EQ(tested.reads.sentences_chosen, expected.reads.sentences_chosen);
  EXPECT_EQ(tested.reads.sentences_compared, expected.reads.sentences_compared);
  EXPECT_EQ(tested.reads.sentences_repeated, expected.reads.sentences_repeated);
}

// With graphs, in two orders of the device, and without.
TEST_P(DeviceSchedules, GiveWhatTheHostGives) {
  const auto seed = static_cast<uint64_t>(GetParam());
  const std::vector<Schedule> schedules = MakeSchedules(2, seed);
  const Outcome host = Serve(schedules, GetParam(), seed, Way::kHost);
  EXPECT_EQ(host.num_choices, 0);
  const std::pair<Way, uint64_t> ways[] = {{Way::kDevice, seed + 1},
                                           {Way::kDevice, seed + 2},
                                           {Way::kDeviceWithoutGraphs, seed}};
  for (const auto& [way, device_seed] : ways) {
    SCOPED_TRACE(testing::Message() << "seed " << device_seed);
    const Outcome device = Serve(schedules, GetParam(), device_seed, way);
    ExpectSame(schedules, host, device);
    EXPECT_GT(device.num_choices, 0);
    EXPECT_EQ(device.num_graphs > 0, way == Way::kDevice);
    EXPECT_GT(device.num_preemptions, 0);
    EXPECT_GT(device.num_reused, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Frames, DeviceSchedules, testing::Values(80, 400),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace sentencekv
