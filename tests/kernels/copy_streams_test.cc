#include "kernels/cpu/copy_streams.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace sentencekv {
namespace {

constexpr DeviceStream kCopyStreams[] = {DeviceStream::kToDevice,
                                         DeviceStream::kToHost};

DeviceStream OtherThan(DeviceStream stream) {
  return stream == DeviceStream::kToDevice ? DeviceStream::kToHost
                                           : DeviceStream::kToDevice;
}

CopyRun OneInt(int* destination, const int* source) {
  return {destination, source, sizeof(int)};
}

void Transfer(CopyStreams& streams, DeviceStream stream, int* destination,
              const int* source) {
  const CopyRun run = OneInt(destination, source);
  streams.Transfer(stream, {&run, 1});
}

class CopyStreamsTest : public testing::TestWithParam<CopyTiming> {
 protected:
  CopyStreams streams_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Timings, CopyStreamsTest,
                         testing::Values(CopyTiming::kThreads,
                                         CopyTiming::kLatest),
                         [](const auto& info) -> std::string {
                           return info.param == CopyTiming::kThreads ? "Threads"
                                                                     : "Latest";
                         });

// Each copy hands on what the one before it brought.
TEST_P(CopyStreamsTest, AStreamKeepsTheOrderOfSubmission) {
  for (const DeviceStream stream : kCopyStreams) {
    std::vector<int> values(200, 0);
    values[0] = 1;
    for (size_t i = 1; i < values.size(); ++i) {
      Transfer(streams_, stream, &values[i], &values[i - 1]);
    }
    streams_.Await(streams_.Record(stream));
    EXPECT_EQ(values, std::vector<int>(200, 1));
  }
}

TEST_P(CopyStreamsTest, RunsOfATransferKeepTheirOrder) {
  int values[4] = {1, 0, 0, 0};
  const CopyRun runs[] = {OneInt(&values[1], &values[0]),
                          OneInt(&values[2], &values[1]),
                          OneInt(&values[3], &values[2])};
  streams_.Transfer(DeviceStream::kToHost, runs);
  streams_.AwaitAll();
  EXPECT_EQ(values[3], 1);
}

TEST_P(CopyStreamsTest, ReadsItsArgumentsBeforeItReturns) {
  const int one = 1;
  int copy = 0;
  {
    std::vector<CopyRun> runs = {OneInt(&copy, &one)};
    streams_.Transfer(DeviceStream::kToDevice, runs);
    runs[0] = {};
  }
  streams_.AwaitAll();
  EXPECT_EQ(copy, 1);
}

// A stream that did not wait would be done long before the other has copied so
// much.
TEST_P(CopyStreamsTest, AStreamWaitsForTheOther) {
  for (const DeviceStream first : kCopyStreams) {
    const DeviceStream second = OtherThan(first);
    const std::vector<uint8_t> source(32 << 20, 7);
    std::vector<uint8_t> copy(source.size(), 0);
    uint8_t last = 0;
    const CopyRun much = {copy.data(), source.data(), source.size()};
    const CopyRun little = {&last, &copy.back(), 1};
    streams_.Transfer(first, {&much, 1});
    streams_.Wait(second, streams_.Record(first));
    streams_.Transfer(second, {&little, 1});
    streams_.Await(streams_.Record(second));
    EXPECT_EQ(last, 7);
    streams_.AwaitAll();
  }
}

TEST_P(CopyStreamsTest, ACopyPassesFromStreamToStream) {
  std::vector<int> values(2000, 0);
  values[0] = 1;
  for (size_t i = 1; i < values.size(); ++i) {
    const DeviceStream stream = kCopyStreams[i % 2];
    streams_.Wait(stream, streams_.Record(OtherThan(stream)));
    Transfer(streams_, stream, &values[i], &values[i - 1]);
  }
  streams_.AwaitAll();
  EXPECT_EQ(values, std::vector<int>(2000, 1));
}

TEST_P(CopyStreamsTest, AwaitAllAwaitsBothStreams) {
  for (int round = 0; round < 100; ++round) {
    const int one = 1;
    int copies[2] = {};
    Transfer(streams_, DeviceStream::kToDevice, &copies[0], &one);
    Transfer(streams_, DeviceStream::kToHost, &copies[1], &one);
    streams_.AwaitAll();
    EXPECT_EQ(copies[0], 1);
    EXPECT_EQ(copies[1], 1);
  }
}

// None of these may block a stream or the caller.
TEST_P(CopyStreamsTest, WhatHasPassedIsNotWaitedFor) {
  const int one = 1;
  int copy = 0;
  const DeviceStream stream = DeviceStream::kToDevice;
  EXPECT_EQ(streams_.Record(stream).number, 0u);
  streams_.Await(streams_.Record(stream));
  streams_.AwaitAll();
  streams_.Wait(stream, {DeviceStream::kToHost, 0});
  streams_.Wait(stream, {DeviceStream::kCompute, 0});
  Transfer(streams_, stream, &copy, &one);
  const DeviceEvent copied = streams_.Record(stream);
  streams_.Wait(stream, copied);  // its own order
  streams_.AwaitAll();
  streams_.Wait(DeviceStream::kToHost, copied);
  streams_.AwaitAll();
  EXPECT_EQ(copy, 1);
}

TEST_P(CopyStreamsTest, EventsRise) {
  const int one = 1;
  int copy = 0;
  Transfer(streams_, DeviceStream::kToHost, &copy, &one);
  const DeviceEvent first = streams_.Record(DeviceStream::kToHost);
  Transfer(streams_, DeviceStream::kToHost, &copy, &one);
  const DeviceEvent second = streams_.Record(DeviceStream::kToHost);
  EXPECT_EQ(first.stream, DeviceStream::kToHost);
  EXPECT_GT(first.number, 0u);
  EXPECT_GT(second.number, first.number);
  EXPECT_EQ(streams_.Record(DeviceStream::kToHost).number, second.number);
  EXPECT_EQ(streams_.Record(DeviceStream::kToDevice).number, 0u);
  streams_.AwaitAll();
}

TEST_P(CopyStreamsTest, DestructionRunsWhatWasSubmitted) {
  const std::vector<uint8_t> source(8 << 20, 7);
  std::vector<uint8_t> copy(source.size(), 0);
  uint8_t last = 0;
  {
    CopyStreams streams(GetParam());
    const CopyRun much = {copy.data(), source.data(), source.size()};
    const CopyRun little = {&last, &copy.back(), 1};
    streams.Transfer(DeviceStream::kToHost, {&much, 1});
    streams.Wait(DeviceStream::kToDevice,
                 streams.Record(DeviceStream::kToHost));
    streams.Transfer(DeviceStream::kToDevice, {&little, 1});
  }
  EXPECT_EQ(copy, source);
  EXPECT_EQ(last, 7);
}

TEST(CopyStreamsLatest, NothingHappensUntilItIsAwaited) {
  int source = 1;
  int copies[2] = {};
  CopyStreams streams(CopyTiming::kLatest);
  Transfer(streams, DeviceStream::kToDevice, &copies[0], &source);
  Transfer(streams, DeviceStream::kToHost, &copies[1], &source);
  EXPECT_EQ(copies[0], 0);
  EXPECT_EQ(copies[1], 0);
  // So late that it sees what happened to the source.
  source = 2;
  streams.Await(streams.Record(DeviceStream::kToDevice));
  EXPECT_EQ(copies[0], 2);
  EXPECT_EQ(copies[1], 0);
}

TEST(CopyStreamsLatest, AwaitingRunsWhatItDependsOnAndNoMore) {
  for (const DeviceStream first : kCopyStreams) {
    const DeviceStream second = OtherThan(first);
    const int one = 1;
    int in_first[3] = {};
    int in_second[2] = {};
    CopyStreams streams(CopyTiming::kLatest);
    Transfer(streams, first, &in_first[0], &one);
    Transfer(streams, first, &in_first[1], &one);
    const DeviceEvent two_copies = streams.Record(first);
    Transfer(streams, first, &in_first[2], &one);
    streams.Wait(second, two_copies);
    Transfer(streams, second, &in_second[0], &one);
    const DeviceEvent awaited = streams.Record(second);
    Transfer(streams, second, &in_second[1], &one);

    streams.Await(awaited);
    EXPECT_EQ(in_first[0], 1);
    EXPECT_EQ(in_first[1], 1);
    EXPECT_EQ(in_first[2], 0);
    EXPECT_EQ(in_second[0], 1);
    EXPECT_EQ(in_second[1], 0);
    streams.Await(awaited);  // has passed
    EXPECT_EQ(in_second[1], 0);
    streams.AwaitAll();
    EXPECT_EQ(in_first[2], 1);
    EXPECT_EQ(in_second[1], 1);
  }
}

// Random copies between cells in both streams, and a host that writes cells
// too. Two uses of a cell, one of which writes it, are ordered by a wait
// wherever they are not of one stream, and by nothing else. So the cells must
// hold what they would if everything had been done at once.
class RandomCopies {
 public:
  RandomCopies(CopyTiming timing, uint32_t seed)
      : random_(seed), streams_(std::in_place, timing) {
    for (size_t cell = 0; cell < kNumCells; ++cell) {
      expected_[cell] = static_cast<uint32_t>(cell);
      memory_[cell].assign(kCellWords, expected_[cell]);
    }
  }

  void Step() {
    switch (random_() % 8) {
      case 0:
        return AwaitSome();
      case 1:
        return HostWrites();
      case 2:
        return WaitForNothingInParticular();
      default:
        return Copy();
    }
  }

  void ExpectAllWhenDone() {
    if (random_() % 2 == 0) {
      streams_->AwaitAll();
    } else {
      streams_.reset();
    }
    for (size_t cell = 0; cell < kNumCells; ++cell) ExpectRight(cell);
  }

 private:
  static constexpr size_t kNumCells = 12;
  static constexpr size_t kCellWords = 2048;

  // The last uses of a cell by one stream, as numbers of its events.
  struct Uses {
    uint64_t written = 0;
    uint64_t read = 0;
  };

  size_t AnyCell() { return random_() % kNumCells; }
  DeviceStream AnyStream() { return kCopyStreams[random_() % 2]; }
  Uses& UsesOf(DeviceStream stream, size_t cell) {
    return uses_[static_cast<size_t>(stream)][cell];
  }

  void Copy() {
    const DeviceStream stream = AnyStream();
    const DeviceStream other = OtherThan(stream);
    std::vector<std::pair<size_t, size_t>> pairs;  // destination, source
    std::vector<CopyRun> runs;
    uint64_t needed = 0;
    for (size_t count = 1 + random_() % 3; count > 0; --count) {
      const size_t source = AnyCell();
      const size_t destination = (source + 1 + random_() % (kNumCells - 1)) %
                                 kNumCells;  // another one
      pairs.emplace_back(destination, source);
      runs.push_back({memory_[destination].data(), memory_[source].data(),
                      kCellWords * sizeof(uint32_t)});
      needed = std::max({needed, UsesOf(other, source).written,
                         UsesOf(other, destination).written,
                         UsesOf(other, destination).read});
    }
    uint64_t& waited = waited_[static_cast<size_t>(stream)];
    if (needed > waited) {
      streams_->Wait(stream, {other, needed});
      waited = needed;
    }
    streams_->Transfer(stream, runs);
    const uint64_t done = streams_->Record(stream).number;
    for (const auto& [destination, source] : pairs) {
      expected_[destination] = expected_[source];
      UsesOf(stream, source).read = done;
      UsesOf(stream, destination).written = done;
    }
  }

  void WaitForNothingInParticular() {
    const DeviceStream stream = AnyStream();
    const DeviceEvent event = streams_->Record(OtherThan(stream));
    streams_->Wait(stream, event);
    waited_[static_cast<size_t>(stream)] = event.number;
  }

  // What was written last, and before the event, is there.
  void AwaitSome() {
    const DeviceStream stream = AnyStream();
    const uint64_t number = random_() % (streams_->Record(stream).number + 1);
    streams_->Await({stream, number});
    for (size_t cell = 0; cell < kNumCells; ++cell) {
      const uint64_t written = UsesOf(stream, cell).written;
      if (written > 0 && written <= number &&
          UsesOf(OtherThan(stream), cell).written == 0) {
        ExpectRight(cell);
      }
    }
  }

  void HostWrites() {
    const size_t cell = AnyCell();
    for (const DeviceStream stream : kCopyStreams) {
      Uses& uses = UsesOf(stream, cell);
      streams_->Await({stream, std::max(uses.written, uses.read)});
      uses = {};
    }
    ExpectRight(cell);
    expected_[cell] = static_cast<uint32_t>(random_());
    memory_[cell].assign(kCellWords, expected_[cell]);
  }

  void ExpectRight(size_t cell) {
    EXPECT_EQ(memory_[cell], std::vector<uint32_t>(kCellWords, expected_[cell]))
        << "cell " << cell;
  }

  std::mt19937 random_;
  std::array<std::vector<uint32_t>, kNumCells> memory_;
  std::array<uint32_t, kNumCells> expected_;
  std::array<std::array<Uses, kNumCells>, kNumDeviceStreams> uses_ = {};
  // Up to where a stream waits for the other one.
  std::array<uint64_t, kNumDeviceStreams> waited_ = {};
  std::optional<CopyStreams> streams_;  // last: it copies what is above
};

TEST_P(CopyStreamsTest, RandomCopiesGiveWhatTheirOrderSays) {
  for (uint32_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    RandomCopies copies(GetParam(), seed);
    for (int step = 0; step < 300; ++step) copies.Step();
    copies.ExpectAllWhenDone();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace sentencekv
