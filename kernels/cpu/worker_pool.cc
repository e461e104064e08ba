#include "kernels/cpu/worker_pool.h"

#include <sched.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/check.h"
#include "kernels/cpu/aligned_memory.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sentencekv {
namespace {

using SteadyClock = std::chrono::steady_clock;

// How long the caller waits for workers' last tiles before it computes them
// again: two tiles' worth of time, and at least this (measured: shorter wastes
// work on an idle machine, longer wastes time on a busy one).
constexpr auto kMinPatience = std::chrono::microseconds(3);
// A worker without work polls this long, giving way to others in between, and
// sleeps then. Between two jobs of one decode step lie a few microseconds.
constexpr auto kIdleSpin = std::chrono::microseconds(100);
constexpr int kPausesPerPoll = 64;  // about 1 to 3 us

void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

enum TileState : uint8_t { kOpen, kTaken };

// A run of tiles that one thread begins with; others take from it once they
// have finished their own. On a cache line of its own: while every thread
// works on its share, none waits for another's line, and a thread reads
// weights that lie one behind the other. (Measured with 17 KB of weights a
// tile: one counter for all threads made a tile cost 0.9 us more.)
struct alignas(64) Share {
  std::atomic<int64_t> next = 0;
  int64_t end = 0;
  std::atomic<int64_t> tiles_left = 0;
};

// Everything a thread needs to work on one job. A slot is written by the
// caller while no worker is inside it (see Impl::active).
class Slot {
 public:
  explicit Slot(int num_threads) : shares_(static_cast<size_t>(num_threads)) {}

  void Prepare(int64_t num_tiles) {
    const auto count = static_cast<int64_t>(shares_.size());
    for (int64_t i = 0; i < count; ++i) {
      Share& share = shares_[static_cast<size_t>(i)];
      const int64_t begin = num_tiles * i / count;
      share.end = num_tiles * (i + 1) / count;
      share.next.store(begin, std::memory_order_relaxed);
      share.tiles_left.store(share.end - begin, std::memory_order_relaxed);
    }
    num_tiles_ = num_tiles;
  }

  void SetPlain(WorkerPool::Body body, void* context) {
    body_ = body;
    body_context_ = context;
  }

  void SetRepeatable(const WorkerPool::RepeatableJob& job) {
    body_ = nullptr;
    job_ = job;
    job_.context = context_;
    std::memcpy(context_, job.context, job.context_bytes);
    const size_t count = StateIndex(num_tiles_, shares_.size());
    if (states_.size() < count) {
      states_ = std::vector<std::atomic<uint8_t>>(count * 2);
    }
    for (size_t i = 0; i < count; ++i) {
      states_[i].store(kOpen, std::memory_order_relaxed);
    }
  }

  // Runs tiles until none is left to take, those of share `first` before
  // others. Returns how many.
  int64_t RunTiles(size_t first, GrowingMemory& scratch) {
    int64_t count = 0;
    for (size_t i = 0; i < shares_.size(); ++i) {
      const size_t index = (first + i) % shares_.size();
      Share& share = shares_[index];
      // A look before the claim: only few shares have anything left.
      while (share.next.load(std::memory_order_relaxed) < share.end) {
        const int64_t tile = share.next.fetch_add(1, std::memory_order_relaxed);
        if (tile >= share.end) break;
        RunTile(index, tile, scratch);
        ++count;
      }
    }
    return count;
  }

  // Runs again the tiles of a repeatable job that are not committed yet.
  void TakeBackTiles(GrowingMemory& scratch) {
    for (size_t index = 0; index < shares_.size(); ++index) {
      const int64_t begin = index == 0 ? 0 : shares_[index - 1].end;
      for (int64_t tile = begin; tile < shares_[index].end; ++tile) {
        if (states_[StateIndex(tile, index)].load(std::memory_order_relaxed) ==
            kOpen) {
          RunTile(index, tile, scratch);
        }
      }
    }
  }

  bool Done() const {
    for (const Share& share : shares_) {
      if (share.tiles_left.load(std::memory_order_acquire) != 0) return false;
    }
    return true;
  }

 private:
  // States of different shares lie on different cache lines.
  static size_t StateIndex(int64_t tile, size_t share) {
    return static_cast<size_t>(tile) + 64 * share;
  }

  void RunTile(size_t share, int64_t tile, GrowingMemory& scratch) {
    if (body_ != nullptr) {
      body_(body_context_, tile);
    } else if (!RunRepeatableTile(share, tile, scratch)) {
      return;
    }
    shares_[share].tiles_left.fetch_sub(1, std::memory_order_release);
  }

  // Computes a tile and commits it, unless another thread has done so: false.
  bool RunRepeatableTile(size_t share, int64_t tile, GrowingMemory& scratch) {
    void* memory = scratch.AtLeast(job_.scratch_bytes);
    SKV_CHECK(memory != nullptr);
    job_.compute(job_.context, tile, memory);
    uint8_t expected = kOpen;
    if (!states_[StateIndex(tile, share)].compare_exchange_strong(expected,
                                                                  kTaken)) {
      return false;
    }
    job_.commit(job_.context, tile, memory);
    return true;
  }

  int64_t num_tiles_ = 0;
  WorkerPool::Body body_ = nullptr;  // of a plain job
  void* body_context_ = nullptr;
  WorkerPool::RepeatableJob job_;  // otherwise; its context is the next
  alignas(64) std::byte context_[WorkerPool::kMaxContextBytes];
  // Of a repeatable job: kTaken once a thread has the right to commit.
  std::vector<std::atomic<uint8_t>> states_;
  std::vector<Share> shares_;  // one for each thread
};

}  // namespace

// Jobs are numbered; the low 32 bits of the count, never 0. Job n lies in slot
// n % slots.size(). `current` is the newest job; `active` holds the job that
// each worker is inside, or 0. A worker announces the job first and looks at
// `current` again afterwards; the caller changes `current` before it looks at
// `active`. So either the worker sees that the job is over and stays out, or
// the caller sees it inside and leaves the slot alone. There are more slots
// than workers, hence always a free one.
struct WorkerPool::Impl {
  struct alignas(64) ActiveJob {
    std::atomic<uint32_t> number = 0;
  };

  explicit Impl(int threads) : active(static_cast<size_t>(threads - 1)) {
    for (int i = 0; i < threads + 1; ++i) {
      slots.push_back(std::make_unique<Slot>(threads));
    }
  }

  Slot& SlotOf(uint32_t number) { return *slots[number % slots.size()]; }

  bool IsFree(uint32_t number) const {
    for (const ActiveJob& job : active) {
      const uint32_t inside = job.number.load();
      if (inside != 0 && inside % slots.size() == number % slots.size()) {
        return false;
      }
    }
    return true;
  }

  // Picks the next job number whose slot no worker is inside.
  uint32_t NextJob() {
    do {
      ++last_job;
    } while (last_job == 0 || !IsFree(last_job));
    return last_job;
  }

  void Publish(uint32_t number) {
    current.store(number);
    if (num_sleeping.load() > 0) {
      std::lock_guard lock(mutex);
      wake.notify_all();
    }
  }

  void WaitUntilDone(const Slot& slot) {
    for (int polls = 0; !slot.Done(); ++polls) {
      polls < kPausesPerPoll ? Pause() : std::this_thread::yield();
    }
  }

  // Waits for the workers' tiles while `patience` lasts and lets a worker have
  // this core once, in case it was waiting for just that.
  bool WaitPatiently(const Slot& slot, SteadyClock::duration patience) {
    const auto end = SteadyClock::now() + patience;
    do {
      for (int i = 0; i < kPausesPerPoll / 8; ++i) {
        if (slot.Done()) return true;
        Pause();
      }
    } while (SteadyClock::now() < end);
    std::this_thread::yield();
    return slot.Done();
  }

  void WorkerLoop(size_t index);
  bool WaitForJob(uint32_t seen);
  bool Sleep(uint32_t seen);

  std::atomic<bool> stopping = false;
  alignas(64) std::atomic<uint32_t> current = 0;
  alignas(64) std::atomic<int> num_sleeping = 0;
  std::vector<ActiveJob> active;  // one for each worker
  std::vector<std::unique_ptr<Slot>> slots;
  uint32_t last_job = 0;         // caller's
  GrowingMemory caller_scratch;  // caller's
  std::mutex mutex;
  std::condition_variable wake;
  std::vector<std::thread> workers;
};

void WorkerPool::Impl::WorkerLoop(size_t index) {
  GrowingMemory scratch;
  std::atomic<uint32_t>& inside = active[index].number;
  for (uint32_t seen = 0; WaitForJob(seen);) {
    seen = current.load();
    inside.store(seen);
    // The caller has the first share.
    if (current.load() == seen) SlotOf(seen).RunTiles(index + 1, scratch);
    inside.store(0);
  }
}

// Returns once a job other than `seen` has been published; false to stop.
bool WorkerPool::Impl::WaitForJob(uint32_t seen) {
  const auto end = SteadyClock::now() + kIdleSpin;
  do {
    for (int i = 0; i < kPausesPerPoll; ++i) {
      if (current.load(std::memory_order_acquire) != seen) {
        return !stopping.load();
      }
      Pause();
    }
    std::this_thread::yield();
  } while (SteadyClock::now() < end);
  return Sleep(seen);
}

bool WorkerPool::Impl::Sleep(uint32_t seen) {
  std::unique_lock lock(mutex);
  num_sleeping.fetch_add(1);
  wake.wait(lock, [&] { return stopping.load() || current.load() != seen; });
  num_sleeping.fetch_sub(1);
  return !stopping.load();
}

WorkerPool::WorkerPool(int num_threads) {
  SKV_CHECK(num_threads >= 1);
  impl_ = std::make_unique<Impl>(num_threads);
  for (size_t i = 0; i < impl_->active.size(); ++i) {
    impl_->workers.emplace_back([this, i] { impl_->WorkerLoop(i); });
  }
}

WorkerPool::~WorkerPool() {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->stopping.store(true);
  }
  const uint32_t number = impl_->NextJob();
  impl_->SlotOf(number).Prepare(0);
  impl_->Publish(number);
  for (std::thread& worker : impl_->workers) worker.join();
}

int WorkerPool::num_threads() const {
  return static_cast<int>(impl_->active.size()) + 1;
}

void WorkerPool::Run(int64_t num_tiles, Body body, void* context) {
  SKV_CHECK(num_tiles >= 0 && num_tiles < (int64_t{1} << 32));
  if (num_tiles <= 1 || impl_->active.empty()) {
    for (int64_t tile = 0; tile < num_tiles; ++tile) body(context, tile);
    return;
  }
  const uint32_t number = impl_->NextJob();
  Slot& slot = impl_->SlotOf(number);
  slot.Prepare(num_tiles);
  slot.SetPlain(body, context);
  impl_->Publish(number);
  slot.RunTiles(0, impl_->caller_scratch);
  impl_->WaitUntilDone(slot);
}

uint32_t WorkerPool::RunRepeatable(const RepeatableJob& job) {
  SKV_CHECK(job.num_tiles >= 0 && job.num_tiles < (int64_t{1} << 32));
  SKV_CHECK(job.context_bytes <= kMaxContextBytes);
  if (job.num_tiles <= 1 || impl_->active.empty()) {
    void* scratch = impl_->caller_scratch.AtLeast(job.scratch_bytes);
    for (int64_t tile = 0; tile < job.num_tiles; ++tile) {
      job.compute(job.context, tile, scratch);
      job.commit(job.context, tile, scratch);
    }
    return 0;
  }
  const uint32_t number = impl_->NextJob();
  Slot& slot = impl_->SlotOf(number);
  slot.Prepare(job.num_tiles);
  slot.SetRepeatable(job);
  const auto start = SteadyClock::now();
  impl_->Publish(number);
  const int64_t own_tiles = slot.RunTiles(0, impl_->caller_scratch);
  if (slot.Done()) return number;
  auto patience = (SteadyClock::now() - start) * 2 / (own_tiles + 1);
  if (patience < kMinPatience) patience = kMinPatience;
  if (impl_->WaitPatiently(slot, patience)) return number;
  slot.TakeBackTiles(impl_->caller_scratch);
  // What is left is being committed this moment.
  impl_->WaitUntilDone(slot);
  return number;
}

bool WorkerPool::MayRead(uint32_t job_number) const {
  if (job_number == 0) return false;
  for (const Impl::ActiveJob& job : impl_->active) {
    if (job.number.load() == job_number) return true;
  }
  return false;
}

void WorkerPool::Quiesce() const {
  for (const Impl::ActiveJob& job : impl_->active) {
    while (job.number.load() != 0) std::this_thread::yield();
  }
}

}  // namespace sentencekv
