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

// Everything a thread needs to work on one job. A slot is written by the
// caller while no worker is inside it (see Impl::active).
struct alignas(64) Slot {
  int64_t num_tiles = 0;
  WorkerPool::Body body = nullptr;  // of a plain job
  void* body_context = nullptr;
  WorkerPool::RepeatableJob job;  // otherwise; job.context points below
  alignas(64) std::byte context[WorkerPool::kMaxContextBytes];
  // Of a repeatable job: kTaken once a thread has the right to commit.
  std::vector<std::atomic<uint8_t>> states;
  alignas(64) std::atomic<int64_t> tiles_left = 0;

  void Prepare(int64_t tiles) {
    num_tiles = tiles;
    tiles_left.store(tiles, std::memory_order_relaxed);
  }

  void ResetStates() {
    const auto count = static_cast<size_t>(num_tiles);
    if (states.size() < count) {
      states = std::vector<std::atomic<uint8_t>>(count * 2);
    }
    for (size_t i = 0; i < count; ++i) {
      states[i].store(kOpen, std::memory_order_relaxed);
    }
  }

  // Computes a tile and commits it unless another thread has.
  void RunRepeatableTile(int64_t tile, GrowingMemory& scratch) {
    void* memory = scratch.AtLeast(job.scratch_bytes);
    SKV_CHECK(memory != nullptr);
    job.compute(job.context, tile, memory);
    uint8_t expected = kOpen;
    if (!states[static_cast<size_t>(tile)].compare_exchange_strong(expected,
                                                                   kTaken)) {
      return;
    }
    job.commit(job.context, tile, memory);
    tiles_left.fetch_sub(1, std::memory_order_release);
  }

  void RunTile(int64_t tile, GrowingMemory& scratch) {
    if (body == nullptr) return RunRepeatableTile(tile, scratch);
    body(body_context, tile);
    tiles_left.fetch_sub(1, std::memory_order_release);
  }

  bool Done() const { return tiles_left.load(std::memory_order_acquire) == 0; }
};

}  // namespace

// Jobs are numbered; the low 32 bits of the count, never 0. Job n lies in slot
// n % slots.size().
//
// `control` is (job number << 32 | next tile): a tile is claimed by moving it
// on, which fails once another job has begun. `active` holds the job that each
// worker is inside, or 0. A worker announces the job first and looks at
// `control` again afterwards; the caller changes `control` before it looks at
// `active`. So either the worker sees that the job is over and stays out, or
// the caller sees it inside and leaves the slot alone. There are more slots
// than workers, hence always a free one.
struct WorkerPool::Impl {
  struct alignas(64) ActiveJob {
    std::atomic<uint32_t> number = 0;
  };

  explicit Impl(int threads)
      : active(static_cast<size_t>(threads - 1)),
        slots(static_cast<size_t>(threads + 1)) {}

  static uint32_t JobOf(uint64_t word) {
    return static_cast<uint32_t>(word >> 32);
  }
  Slot& SlotOf(uint32_t number) { return slots[number % slots.size()]; }

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
    control.store(static_cast<uint64_t>(number) << 32);
    if (num_sleeping.load() > 0) {
      std::lock_guard lock(mutex);
      wake.notify_all();
    }
  }

  // Claims the next tile of a job; false when there is none or it is over.
  bool Claim(uint32_t number, int64_t num_tiles, int64_t* tile) {
    uint64_t word = control.load(std::memory_order_relaxed);
    do {
      if (JobOf(word) != number) return false;
      *tile = static_cast<int64_t>(word & 0xffffffffu);
      if (*tile >= num_tiles) return false;
    } while (!control.compare_exchange_weak(
        word, word + 1, std::memory_order_acq_rel, std::memory_order_relaxed));
    return true;
  }

  // The caller's part of a job. Returns how many tiles it ran.
  int64_t RunTiles(uint32_t number, Slot& slot) {
    int64_t count = 0;
    for (int64_t tile; Claim(number, slot.num_tiles, &tile); ++count) {
      slot.RunTile(tile, caller_scratch);
    }
    return count;
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

  void TakeBackTiles(Slot& slot) {
    for (int64_t tile = 0; tile < slot.num_tiles && !slot.Done(); ++tile) {
      const auto& state = slot.states[static_cast<size_t>(tile)];
      if (state.load(std::memory_order_relaxed) == kOpen) {
        slot.RunRepeatableTile(tile, caller_scratch);
      }
    }
  }

  void WorkerLoop(std::atomic<uint32_t>& inside);
  bool WaitForJob(uint32_t seen);
  bool Sleep(uint32_t seen);

  std::atomic<bool> stopping = false;
  alignas(64) std::atomic<uint64_t> control = 0;
  alignas(64) std::atomic<int> num_sleeping = 0;
  std::vector<ActiveJob> active;  // one for each worker
  std::vector<Slot> slots;
  uint32_t last_job = 0;         // caller's
  GrowingMemory caller_scratch;  // caller's
  std::mutex mutex;
  std::condition_variable wake;
  std::vector<std::thread> workers;
};

void WorkerPool::Impl::WorkerLoop(std::atomic<uint32_t>& inside) {
  GrowingMemory scratch;
  for (uint32_t seen = 0; WaitForJob(seen);) {
    seen = JobOf(control.load());
    inside.store(seen);
    if (JobOf(control.load()) == seen) {
      Slot& slot = SlotOf(seen);
      for (int64_t tile; Claim(seen, slot.num_tiles, &tile);) {
        slot.RunTile(tile, scratch);
      }
    }
    inside.store(0);
  }
}

// Returns once a job other than `seen` has been published; false to stop.
bool WorkerPool::Impl::WaitForJob(uint32_t seen) {
  const auto end = SteadyClock::now() + kIdleSpin;
  do {
    for (int i = 0; i < kPausesPerPoll; ++i) {
      if (JobOf(control.load(std::memory_order_acquire)) != seen) {
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
  wake.wait(lock,
            [&] { return stopping.load() || JobOf(control.load()) != seen; });
  num_sleeping.fetch_sub(1);
  return !stopping.load();
}

WorkerPool::WorkerPool(int num_threads) {
  SKV_CHECK(num_threads >= 1);
  impl_ = std::make_unique<Impl>(num_threads);
  for (Impl::ActiveJob& job : impl_->active) {
    impl_->workers.emplace_back(
        [impl = impl_.get(), &job] { impl->WorkerLoop(job.number); });
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
  slot.body = body;
  slot.body_context = context;
  impl_->Publish(number);
  impl_->RunTiles(number, slot);
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
  slot.body = nullptr;
  slot.job = job;
  slot.job.context = slot.context;
  std::memcpy(slot.context, job.context, job.context_bytes);
  slot.ResetStates();
  const auto start = SteadyClock::now();
  impl_->Publish(number);
  const int64_t own_tiles = impl_->RunTiles(number, slot);
  if (slot.Done()) return number;
  auto patience = (SteadyClock::now() - start) * 2 / (own_tiles + 1);
  if (patience < kMinPatience) patience = kMinPatience;
  if (impl_->WaitPatiently(slot, patience)) return number;
  impl_->TakeBackTiles(slot);
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
