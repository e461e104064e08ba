// A binary of its own: signals must be blocked before any thread starts.
#include "server/shutdown_signals.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace sentencekv {
namespace {

class Recorder {
 public:
  void Record(int signal, int count) {
    absl::MutexLock lock(&mutex_);
    seen_.push_back({signal, count});
  }
  bool Await(size_t count) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&] {
      mutex_.AssertReaderHeld();
      return seen_.size() >= count;
    };
    return mutex_.AwaitWithTimeout(absl::Condition(&enough), absl::Seconds(20));
  }
  std::vector<std::pair<int, int>> seen() {
    absl::MutexLock lock(&mutex_);
    return seen_;
  }

 private:
  absl::Mutex mutex_;
  std::vector<std::pair<int, int>> seen_ ABSL_GUARDED_BY(mutex_);
};

TEST(ShutdownSignals, CountsBothSignals) {
  Recorder recorder;
  const ShutdownSignals signals(
      [&](int signal, int count) { recorder.Record(signal, count); });
  // One at a time: equal signals that are pending become one.
  kill(getpid(), SIGTERM);
  ASSERT_TRUE(recorder.Await(1));
  kill(getpid(), SIGINT);
  ASSERT_TRUE(recorder.Await(2));
  kill(getpid(), SIGTERM);
  ASSERT_TRUE(recorder.Await(3));
  const std::vector<std::pair<int, int>> expected = {
      {SIGTERM, 1}, {SIGINT, 2}, {SIGTERM, 3}};
  EXPECT_EQ(recorder.seen(), expected);
}

TEST(ShutdownSignals, EndsWithoutASignal) {
  Recorder recorder;
  {
    const ShutdownSignals signals(
        [&](int signal, int count) { recorder.Record(signal, count); });
  }
  EXPECT_TRUE(recorder.seen().empty());
}

}  // namespace
}  // namespace sentencekv
