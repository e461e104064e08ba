#include "server/stream_pump.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "absl/time/clock.h"

namespace sentencekv {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(20);

class CountingStream final : public PumpedStream {
 public:
  void Pump() override { ++pumped; }
  void AbortWhenStalled(absl::Time, absl::Duration) override { ++checked; }
  std::atomic<int> pumped = 0;
  std::atomic<int> checked = 0;
};

bool Reaches(const std::atomic<int>& value, int target) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (value < target) {
    if (absl::Now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST(StreamPump, PumpsWhatIsPostedOffTheCallersThread) {
  StreamPump pump(absl::Hours(1));
  auto stream = std::make_shared<CountingStream>();
  pump.Add(stream.get(), stream);
  for (int i = 0; i < 10; ++i) pump.Post(stream);
  EXPECT_TRUE(Reaches(stream->pumped, 10));
  pump.Remove(stream.get());
}

TEST(StreamPump, ForgetsStreamsThatAreGone) {
  StreamPump pump(absl::Milliseconds(40));
  auto stream = std::make_shared<CountingStream>();
  pump.Add(stream.get(), stream);
  const CountingStream* key = stream.get();
  pump.Post(stream);
  EXPECT_TRUE(Reaches(stream->pumped, 1));
  stream.reset();
  pump.Post(std::weak_ptr<CountingStream>());
  EXPECT_EQ(pump.num_streams(), 1);
  pump.Remove(key);
  EXPECT_EQ(pump.num_streams(), 0);
}

TEST(StreamPump, ChecksForStallsWhetherOrNotAnythingIsPosted) {
  StreamPump pump(absl::Milliseconds(40));
  auto stream = std::make_shared<CountingStream>();
  pump.Add(stream.get(), stream);
  EXPECT_TRUE(Reaches(stream->checked, 2));
  pump.Remove(stream.get());
}

TEST(StreamPump, AwaitNoneWaitsForTheLastOne) {
  StreamPump pump(absl::Hours(1));
  EXPECT_TRUE(pump.AwaitNone(absl::ZeroDuration()));
  auto stream = std::make_shared<CountingStream>();
  pump.Add(stream.get(), stream);
  EXPECT_FALSE(pump.AwaitNone(absl::Milliseconds(1)));
  std::thread remover([&] { pump.Remove(stream.get()); });
  EXPECT_TRUE(pump.AwaitNone(kPatience));
  remover.join();
}

}  // namespace
}  // namespace sentencekv
