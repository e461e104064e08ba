// A device with memory of its own gives what one memory gives: whole engines,
// with random requests, cancels and too little memory of either kind.
#include <cstdint>
#include <random>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "tests/engine/random_schedules.h"

namespace sentencekv {
namespace {

ModelRunnerOptions TwoMemories(int64_t num_frames) {
  ModelRunnerOptions options = ScheduleMemory();
  options.num_frames = num_frames;
  return options;
}

// The first difference among `count` schedules; "" when there is none.
std::string FirstDifference(ScheduleMachine& expected, ScheduleMachine& tested,
                            int count, uint64_t seed) {
  ScheduleMaker maker(seed);
  for (int i = 0; i < count; ++i) {
    const Schedule schedule = maker.Make();
    const auto right = expected.Run(schedule);
    const std::string difference =
        DifferenceOfAnswers(schedule, right, tested.Run(schedule));
    if (difference.empty()) continue;
    return "schedule " + std::to_string(i) + ", " + difference;
  }
  return "";
}

class DeviceMemory : public testing::TestWithParam<int64_t> {};

// 250 schedules for each of four sizes of device memory, from one layer of the
// longest sequence to more than there is.
TEST_P(DeviceMemory, GivesWhatOneMemoryGives) {
  ScheduleMachine one(ScheduleMemory());
  ScheduleMachine two(TwoMemories(GetParam()));
  EXPECT_EQ(FirstDifference(one, two, 250, 1000 + GetParam()), "");
  EXPECT_GT(one.num_preemptions(), 0);
  EXPECT_GT(one.num_reused(), 0);
  const KvTransfers transfers = two.transfers();
  EXPECT_EQ(transfers.frames_total, GetParam());
  EXPECT_GT(transfers.misses, 0);
  EXPECT_GT(transfers.hits, 0);
  EXPECT_GT(transfers.bytes_to_device, 0);
  EXPECT_GT(transfers.bytes_to_host, 0);
  // With room for all, nothing has to go.
  const bool is_tight = GetParam() < 100;
  EXPECT_EQ(transfers.evictions > 0, is_tight);
  // What one layer of the longest sequence needs is never lent to single heads.
  EXPECT_EQ(transfers.chosen_misses > 0,
            is_tight && GetParam() > kScheduleContextPages);
  EXPECT_EQ(one.transfers().bytes_to_device, 0);
}

INSTANTIATE_TEST_SUITE_P(Frames, DeviceMemory,
                         testing::Values(kScheduleContextPages,
                                         kScheduleContextPages + 5, 40, 400),
                         testing::PrintToStringParamName());

using Waits = std::pair<DeviceStream, DeviceStream>;
class DeviceMemoryOrder : public testing::TestWithParam<Waits> {};

// Copies run as late as events allow, so an event that is not waited for shows.
TEST_P(DeviceMemoryOrder, AForgottenWaitShows) {
  ModelRunnerOptions options = TwoMemories(kScheduleContextPages + 5);
  options.forgotten_waits = GetParam();
  ScheduleMachine one(ScheduleMemory());
  ScheduleMachine two(options);
  EXPECT_NE(FirstDifference(one, two, 100, 7), "");
}

INSTANTIATE_TEST_SUITE_P(
    Waits, DeviceMemoryOrder,
    testing::Values(Waits{DeviceStream::kCompute, DeviceStream::kToDevice},
                    Waits{DeviceStream::kCompute, DeviceStream::kToHost},
                    Waits{DeviceStream::kToDevice, DeviceStream::kToHost}),
    [](const auto& info) {
      const auto name = [](DeviceStream stream) -> std::string {
        switch (stream) {
          case DeviceStream::kCompute:
            return "Compute";
          case DeviceStream::kToDevice:
            return "ToDevice";
          case DeviceStream::kToHost:
            return "ToHost";
        }
        return "";
      };
      return name(info.param.first) + "For" + name(info.param.second);
    });

// A method of the backend, and up to which of its calls in a schedule fails.
struct Fault {
  const char* method;
  int most;
};
class DeviceMemoryFault : public testing::TestWithParam<Fault> {};

// The requests of the step end with the error. All others, those that go on and
// those that come later, get right answers, and nothing is left behind.
TEST_P(DeviceMemoryFault, EndsTheRequestsOfItsStepAndNoOthers) {
  const absl::Status ordered = absl::InternalError("ordered");
  ModelRunnerOptions options = TwoMemories(kScheduleContextPages + 5);
  options.can_fail = true;
  ScheduleMachine one(ScheduleMemory());
  ScheduleMachine two(options);
  ScheduleMaker maker(11);
  std::mt19937 random(12);
  int num_failed = 0;
  int num_unhurt = 0;
  for (int i = 0; i < 100; ++i) {
    SCOPED_TRACE(testing::Message() << "schedule " << i);
    const Schedule schedule = maker.Make();
    const auto right = one.Run(schedule);
    const int n = 1 + static_cast<int>(random() % GetParam().most);
    two.faults().FailCall(n, ordered, GetParam().method);
    const auto got = two.Run(schedule);
    const bool failed = !two.faults().failed_method().empty();
    two.faults().FailCall(0, ordered);
    int num_errors = 0;
    for (size_t j = 0; j < got.size(); ++j) {
      SCOPED_TRACE(testing::Message() << "request " << j);
      EXPECT_EQ(got[j].num_finishes, 1);
      EXPECT_EQ(DifferenceOfTokens(right[j], got[j]), "");
      if (got[j].finish->reason == FinishReason::kError) {
        ++num_errors;
        EXPECT_EQ(got[j].finish->status, ordered);
      } else if (!schedule.arrivals[j].cancelled) {
        // Who is cancelled has come further, or less far, by then.
        EXPECT_EQ(Difference(right[j], got[j]), "");
        if (failed) ++num_unhurt;
      }
    }
    EXPECT_EQ(num_errors > 0, failed);
    if (failed) ++num_failed;
    if (HasFailure()) break;
  }
  EXPECT_GT(num_failed, 50);
  EXPECT_GT(num_unhurt, 50);
  EXPECT_EQ(FirstDifference(one, two, 5, 13), "");
}

INSTANTIATE_TEST_SUITE_P(
    Methods, DeviceMemoryFault,
    testing::Values(Fault{"Transfer", 200}, Fault{"Wait", 600},
                    Fault{"Record", 400}, Fault{"Allocate", 3},
                    Fault{"RopeStoreKv", 60}, Fault{"SelectedAttention", 20}),
    [](const auto& info) -> std::string { return info.param.method; });

}  // namespace
}  // namespace sentencekv
