#include "tests/support/fake_clock.h"

#include <thread>

#include "gtest/gtest.h"

namespace sentencekv {
namespace {

TEST(FakeClock, MovesOnlyWhenTold) {
  FakeClock clock;
  const absl::Time start = clock.Now();
  EXPECT_EQ(clock.Now(), start);
  clock.Advance(absl::Seconds(3));
  EXPECT_EQ(clock.Now() - start, absl::Seconds(3));
}

TEST(FakeClock, DoesNotWaitForAPassedDeadline) {
  FakeClock clock;
  absl::Mutex mutex;
  absl::CondVar wakeup;
  absl::MutexLock lock(&mutex);
  clock.WaitUntil(wakeup, mutex, clock.Now());
  clock.WaitUntil(wakeup, mutex, absl::InfinitePast());
}

TEST(FakeClock, WakesAWaiterWhenItsDeadlineComes) {
  FakeClock clock;
  absl::Mutex mutex;
  absl::CondVar wakeup;
  const absl::Time deadline = clock.Now() + absl::Seconds(10);
  std::thread waiter([&] {
    absl::MutexLock lock(&mutex);
    while (clock.Now() < deadline) clock.WaitUntil(wakeup, mutex, deadline);
  });
  for (int i = 0; i < 10; ++i) clock.Advance(absl::Seconds(1));
  waiter.join();
  EXPECT_EQ(clock.Now(), deadline);
}

TEST(FakeClock, WakesAWaiterThatIsSignalled) {
  FakeClock clock;
  absl::Mutex mutex;
  absl::CondVar wakeup;
  bool ready = false;
  std::thread waiter([&] {
    absl::MutexLock lock(&mutex);
    while (!ready) clock.WaitUntil(wakeup, mutex, absl::InfiniteFuture());
  });
  {
    absl::MutexLock lock(&mutex);
    ready = true;
    wakeup.SignalAll();
  }
  waiter.join();
}

}  // namespace
}  // namespace sentencekv
