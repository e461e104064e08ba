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

std::unique_ptr<Backend> MakeBackend() {
  return MakeSmallBackend(size_t{64} << 10, size_t{64} << 10);
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
};

Outcome Serve(const std::vector<Schedule>& schedules, int64_t num_frames,
              uint64_t seed, bool host_chooses) {
  Outcome outcome;
  cuda_sim::Reset({.seed = seed});
  {
    ModelRunnerOptions options = Memory();
    options.make_backend = &MakeBackend;
    options.num_frames = num_frames;
    options.host_chooses = host_chooses;
    ScheduleMachine machine(options);
    for (const Schedule& schedule : schedules) {
      outcome.answers.push_back(machine.Run(schedule));
    }
    outcome.reads = machine.reads();
    outcome.num_preemptions = machine.num_preemptions();
    outcome.num_reused = machine.num_reused();
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

TEST_P(DeviceSchedules, GiveWhatTheHostGives) {
  const auto seed = static_cast<uint64_t>(GetParam());
  const std::vector<Schedule> schedules = MakeSchedules(2, seed);
  const Outcome host = Serve(schedules, GetParam(), seed, true);
  const Outcome device = Serve(schedules, GetParam(), seed + 1, false);
  for (size_t i = 0; i < schedules.size(); ++i) {
    EXPECT_EQ(
        DifferenceOfAnswers(schedules[i], host.answers[i], device.answers[i]),
        "")
        << "schedule " << i;
  }
  EXPECT_EQ(device.reads.steps, host.reads.steps);
  EXPECT_EQ(device.reads.tokens_attended, host.reads.tokens_attended);
  EXPECT_EQ(device.reads.sentences_chosen, host.reads.sentences_chosen);
  EXPECT_EQ(device.reads.sentences_compared, host.reads.sentences_compared);
  EXPECT_EQ(device.reads.sentences_repeated, host.reads.sentences_repeated);
  EXPECT_GT(device.num_choices, 0);
  EXPECT_EQ(host.num_choices, 0);
  EXPECT_GT(device.num_preemptions, 0);
  EXPECT_GT(device.num_reused, 0);
}

INSTANTIATE_TEST_SUITE_P(Frames, DeviceSchedules, testing::Values(80, 400),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace sentencekv
