#include "engine/token_stream.h"

#include <atomic>
#include <string>
#include <thread>
#include <utility>

#include "gtest/gtest.h"

namespace sentencekv {
namespace {

StreamEvent Text(std::string text) {
  StreamEvent event;
  event.text = std::move(text);
  return event;
}

StreamEvent End(FinishReason reason) {
  StreamEvent event;
  event.finish.emplace();
  event.finish->reason = reason;
  return event;
}

TEST(TokenStream, DeliversEventsInOrder) {
  TokenStream stream("a", 4);
  EXPECT_EQ(stream.request_id(), "a");
  EXPECT_FALSE(stream.TryPop().has_value());
  EXPECT_TRUE(stream.Push(Text("one")));
  EXPECT_TRUE(stream.Push(Text("two")));
  EXPECT_TRUE(stream.Push(End(FinishReason::kStop)));
  EXPECT_EQ(stream.TryPop()->text, "one");
  EXPECT_EQ(stream.Pop(absl::InfiniteDuration())->text, "two");
  EXPECT_EQ(stream.TryPop()->finish->reason, FinishReason::kStop);
  EXPECT_FALSE(stream.TryPop().has_value());
}

TEST(TokenStream, RefusesAnEventWhenFullButTakesTheLast) {
  TokenStream stream("a", 2);
  EXPECT_TRUE(stream.Push(Text("one")));
  EXPECT_FALSE(stream.full());
  EXPECT_TRUE(stream.Push(Text("two")));
  EXPECT_TRUE(stream.full());
  EXPECT_FALSE(stream.Push(Text("three")));
  EXPECT_TRUE(stream.Push(End(FinishReason::kLength)));
  EXPECT_EQ(stream.TryPop()->text, "one");
  EXPECT_TRUE(stream.full()) << "two events are left, and two are its capacity";
  EXPECT_EQ(stream.TryPop()->text, "two");
  EXPECT_TRUE(stream.TryPop()->finish.has_value());
}

TEST(TokenStream, PopReturnsNothingAfterTheEndWithoutWaiting) {
  TokenStream stream("a", 1);
  stream.Push(End(FinishReason::kStop));
  EXPECT_TRUE(stream.Pop(absl::InfiniteDuration()).has_value());
  EXPECT_FALSE(stream.Pop(absl::InfiniteDuration()).has_value());
}

TEST(TokenStream, PopGivesUpAfterItsTimeout) {
  TokenStream stream("a", 1);
  EXPECT_FALSE(stream.Pop(absl::ZeroDuration()).has_value());
  EXPECT_FALSE(stream.Pop(absl::Milliseconds(1)).has_value());
}

TEST(TokenStream, CallsReadyOnlyWhenItWasEmpty) {
  TokenStream stream("a", 8);
  int calls = 0;
  stream.SetReadyCallback([&] { ++calls; });
  EXPECT_EQ(calls, 0);
  stream.Push(Text("one"));
  stream.Push(Text("two"));
  EXPECT_EQ(calls, 1);
  stream.TryPop();
  stream.Push(Text("three"));
  EXPECT_EQ(calls, 1);
  while (stream.TryPop().has_value()) {
  }
  stream.Push(Text("four"));
  EXPECT_EQ(calls, 2);
}

TEST(TokenStream, CallsReadyAtOnceForWhatCameBefore) {
  TokenStream stream("a", 8);
  stream.Push(Text("one"));
  std::string popped;
  stream.SetReadyCallback([&] { popped = stream.TryPop()->text; });
  EXPECT_EQ(popped, "one");
}

TEST(TokenStream, TellsTheEngineOfRoomAndOfTheFirstCancel) {
  int calls = 0;
  TokenStream stream("a", 2, [&] { ++calls; });
  stream.Push(Text("one"));
  stream.TryPop();
  EXPECT_EQ(calls, 0) << "it was not full";
  stream.Push(Text("one"));
  stream.Push(Text("two"));
  stream.TryPop();
  EXPECT_EQ(calls, 1);
  stream.TryPop();
  EXPECT_EQ(calls, 1);
  EXPECT_FALSE(stream.cancelled());
  stream.Cancel();
  stream.Cancel();
  EXPECT_TRUE(stream.cancelled());
  EXPECT_EQ(calls, 2);
}

TEST(TokenStream, LeavesTheEngineAloneAfterTheEnd) {
  int calls = 0;
  TokenStream stream("a", 1, [&] { ++calls; });
  stream.Push(Text("one"));
  stream.Push(End(FinishReason::kStop));
  stream.TryPop();
  stream.TryPop();
  stream.Cancel();
  EXPECT_EQ(calls, 0);
  EXPECT_FALSE(stream.cancelled());
}

TEST(TokenStreamDeathTest, AbortsOnAnEventAfterTheEnd) {
  TokenStream stream("a", 1);
  stream.Push(End(FinishReason::kStop));
  EXPECT_DEATH(stream.Push(Text("late")), "check failed");
}

// A writer that obeys backpressure and a reader on another thread: everything
// arrives once and in order.
TEST(TokenStream, CarriesEverythingBetweenTwoThreads) {
  constexpr int kEvents = 2000;
  absl::Mutex mutex;
  bool attention = false;
  TokenStream stream("a", 3, [&] {
    absl::MutexLock lock(&mutex);
    attention = true;
  });
  std::thread writer([&] {
    for (int i = 0; i < kEvents; ++i) {
      while (stream.full()) {
        absl::MutexLock lock(&mutex);
        mutex.Await(absl::Condition(&attention));
        attention = false;
      }
      ASSERT_TRUE(stream.Push(Text(std::to_string(i))));
    }
    stream.Push(End(FinishReason::kStop));
  });
  int next = 0;
  for (;;) {
    const auto event = stream.Pop(absl::InfiniteDuration());
    ASSERT_TRUE(event.has_value());
    if (event->finish.has_value()) break;
    ASSERT_EQ(event->text, std::to_string(next++));
  }
  EXPECT_EQ(next, kEvents);
  writer.join();
}

}  // namespace
}  // namespace sentencekv
