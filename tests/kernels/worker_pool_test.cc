#include "kernels/cpu/worker_pool.h"

#include <sched.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace sentencekv {
namespace {

// More threads than cores, so that workers are left behind now and then.
constexpr int kThreadCounts[] = {1, 2, 4, 16};

TEST(WorkerPool, RunsEveryTileOnce) {
  for (const int num_threads : kThreadCounts) {
    WorkerPool pool(num_threads);
    EXPECT_EQ(pool.num_threads(), num_threads);
    for (const int64_t num_tiles : {0, 1, 2, 3, 16, 17, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(num_tiles));
      pool.ParallelFor(num_tiles, [&](int64_t tile) {
        runs[static_cast<size_t>(tile)].fetch_add(1);
      });
      for (const auto& count : runs) ASSERT_EQ(count.load(), 1);
    }
  }
}

// Plain memory written by bodies is seen after Run without further ado; TSan
// checks the ordering.
TEST(WorkerPool, WritesHappenBeforeRunReturns) {
  WorkerPool pool(4);
  std::vector<int64_t> values(64);
  for (int64_t round = 0; round < 2000; ++round) {
    pool.ParallelFor(64, [&](int64_t tile) {
      values[static_cast<size_t>(tile)] += tile + round;
    });
  }
  for (int64_t i = 0; i < 64; ++i) {
    EXPECT_EQ(values[static_cast<size_t>(i)], 2000 * i + 1999 * 1000);
  }
}

TEST(WorkerPool, BodiesSeeWhatTheCallerWroteBefore) {
  WorkerPool pool(4);
  int64_t input = 0;
  for (int64_t round = 1; round <= 2000; ++round) {
    input = round;
    std::atomic<int64_t> sum = 0;
    pool.ParallelFor(8, [&](int64_t) { sum.fetch_add(input); });
    ASSERT_EQ(sum.load(), 8 * round);
  }
}

TEST(WorkerPool, SleepingWorkersWakeUp) {
  WorkerPool pool(4);
  std::atomic<int64_t> tiles = 0;
  for (int round = 0; round < 20; ++round) {
    // Longer than workers poll before they sleep.
    const auto end =
        std::chrono::steady_clock::now() + std::chrono::milliseconds(1);
    while (std::chrono::steady_clock::now() < end) sched_yield();
    pool.ParallelFor(100, [&](int64_t) { tiles.fetch_add(1); });
  }
  EXPECT_EQ(tiles.load(), 2000);
}

TEST(WorkerPool, StartsAndStopsManyTimes) {
  for (int i = 0; i < 100; ++i) {
    WorkerPool pool(1 + i % 5);
    std::atomic<int64_t> tiles = 0;
    // Every third pool ends without having worked.
    if (i % 3 != 0) pool.ParallelFor(7, [&](int64_t) { tiles.fetch_add(1); });
    EXPECT_EQ(tiles.load(), i % 3 != 0 ? 7 : 0);
  }
}

// A repeatable job that squares its input. Tiles differ in length, and
// `dawdle` makes workers lose their core in the middle of a tile.
struct Square {
  const int64_t* input;
  int64_t* output;
  std::atomic<int>* commits;
  uint32_t dawdle;  // every dawdle-th tile; 0: none
};

void ComputeSquare(const void* context, int64_t tile, void* scratch) {
  const auto& job = *static_cast<const Square*>(context);
  const auto values = static_cast<int64_t*>(scratch);
  for (int64_t i = 0; i < 64; ++i) {
    const int64_t value = job.input[tile * 64 + i];
    values[i] = value * value;
    if (job.dawdle != 0 && static_cast<uint32_t>(tile) % job.dawdle == 0 &&
        i % 16 == 0) {
      sched_yield();
    }
  }
}

void CommitSquare(const void* context, int64_t tile, const void* scratch) {
  const auto& job = *static_cast<const Square*>(context);
  std::memcpy(job.output + tile * 64, scratch, 64 * sizeof(int64_t));
  job.commits[tile].fetch_add(1);
}

WorkerPool::RepeatableJob MakeJob(const Square& context, int64_t num_tiles) {
  return {.num_tiles = num_tiles,
          .compute = ComputeSquare,
          .commit = CommitSquare,
          .scratch_bytes = 64 * sizeof(int64_t),
          .context = &context,
          .context_bytes = sizeof(context)};
}

TEST(WorkerPool, CommitsEveryRepeatableTileOnce) {
  for (const int num_threads : kThreadCounts) {
    WorkerPool pool(num_threads);
    std::mt19937 random(1234);
    for (int round = 0; round < 500; ++round) {
      const int64_t num_tiles = random() % 40;
      const auto size = static_cast<size_t>(num_tiles * 64);
      // New memory for each job: nothing may touch that of an earlier one but
      // to read input, which Quiesce waits for.
      auto input = std::make_unique<std::vector<int64_t>>(size);
      for (int64_t& value : *input) value = random() % 1000;
      std::vector<int64_t> output(size, -1);
      std::vector<std::atomic<int>> commits(static_cast<size_t>(num_tiles));
      const Square context = {input->data(), output.data(), commits.data(),
                              1 + round % 5u};
      pool.RunRepeatable(MakeJob(context, num_tiles));
      for (const auto& count : commits) ASSERT_EQ(count.load(), 1);
      for (size_t i = 0; i < size; ++i) {
        ASSERT_EQ(output[i], (*input)[i] * (*input)[i]);
      }
      pool.Quiesce();
    }
  }
}

// The caller must be able to finish while a worker is stuck in a tile. The
// worker waits for a flag that is only set after the job has ended.
struct Stuck {
  std::thread::id caller;
  std::atomic<bool>* release;
  std::atomic<int>* stuck;
  std::atomic<int>* commits;
};

void ComputeStuck(const void* context, int64_t /*tile*/, void* /*scratch*/) {
  const auto& job = *static_cast<const Stuck*>(context);
  if (std::this_thread::get_id() == job.caller) {
    // Leaves workers the time to take a tile each.
    for (int i = 0; i < 10; ++i) sched_yield();
    return;
  }
  job.stuck->fetch_add(1);
  while (!job.release->load()) sched_yield();
  job.stuck->fetch_sub(1);
}

void CommitStuck(const void* context, int64_t /*tile*/,
                 const void* /*scratch*/) {
  static_cast<const Stuck*>(context)->commits->fetch_add(1);
}

TEST(WorkerPool, CallerTakesBackTilesOfStuckWorkers) {
  WorkerPool pool(4);
  std::atomic<int> stuck = 0;
  int rounds_with_stuck_workers = 0;
  for (int round = 0; round < 50; ++round) {
    std::atomic<bool> release = false;
    std::atomic<int> commits = 0;
    const Stuck context = {std::this_thread::get_id(), &release, &stuck,
                           &commits};
    const uint32_t number =
        pool.RunRepeatable({.num_tiles = 32,
                            .compute = ComputeStuck,
                            .commit = CommitStuck,
                            .scratch_bytes = 1,
                            .context = &context,
                            .context_bytes = sizeof(context)});
    EXPECT_EQ(commits.load(), 32);
    if (stuck.load() > 0) {
      ++rounds_with_stuck_workers;
      EXPECT_TRUE(pool.MayRead(number));
    }
    // Jobs go on beside the stuck workers, in slots they are not inside.
    std::atomic<int> tiles = 0;
    pool.ParallelFor(8, [&](int64_t) { tiles.fetch_add(1); });
    EXPECT_EQ(tiles.load(), 8);
    release.store(true);
    // A worker that comes late may look into the job for a moment, and leaves.
    pool.WaitForReaders(number);
    EXPECT_EQ(stuck.load(), 0);
    pool.Quiesce();
    EXPECT_EQ(commits.load(), 32);  // no late commit
  }
  EXPECT_GT(rounds_with_stuck_workers, 0);
}

// As a decode step does: small jobs of both kinds in a row, inputs reused as
// soon as MayRead allows.
TEST(WorkerPool, MixedJobsOversubscribed) {
  WorkerPool pool(8);
  struct Input {
    std::vector<int64_t> values = std::vector<int64_t>(20 * 64);
    uint32_t job_number = 0;
  };
  std::vector<std::unique_ptr<Input>> inputs;
  std::vector<int64_t> output(20 * 64);
  std::vector<std::atomic<int>> commits(20);
  for (int64_t round = 0; round < 3000; ++round) {
    Input* input = nullptr;
    for (const auto& candidate : inputs) {
      if (!pool.MayRead(candidate->job_number)) input = candidate.get();
    }
    if (input == nullptr) {
      input = inputs.emplace_back(std::make_unique<Input>()).get();
    }
    pool.ParallelFor(20, [&](int64_t tile) {
      for (int64_t i = 0; i < 64; ++i) {
        input->values[static_cast<size_t>(tile * 64 + i)] = round + i;
      }
    });
    const Square context = {input->values.data(), output.data(), commits.data(),
                            round % 7 == 0 ? 3u : 0u};
    input->job_number = pool.RunRepeatable(MakeJob(context, 20));
    for (size_t i = 0; i < output.size(); ++i) {
      const int64_t value = round + static_cast<int64_t>(i % 64);
      ASSERT_EQ(output[i], value * value);
    }
  }
  EXPECT_LE(inputs.size(), 9u);  // as many as threads, and one
  pool.Quiesce();
}

}  // namespace
}  // namespace sentencekv
