#include "kernels/cpu/worker_pool.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/check.h"
#include "kernels/cpu/aligned_memory.h"
#include "kernels/cpu/job_slot.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sentencekv {
namespace {

using SteadyClock = std::chrono::steady_clock;

// How long the caller waits for workers' last tiles before it computes them
// again: two tiles' worth of time, and at least this. A shorter wait computes
// tiles twice on an idle machine, a longer one loses time on a busy one.
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
      slots.push_back(std::make_unique<JobSlot>(threads));
    }
  }

  JobSlot& SlotOf(uint32_t number) { return *slots[number % slots.size()]; }

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

  void WaitUntilDone(const JobSlot& slot) {
    for (int polls = 0; !slot.Done(); ++polls) {
      polls < kPausesPerPoll ? Pause() : std::this_thread::yield();
    }
  }

  // Waits for the workers' tiles while `patience` lasts and lets a worker have
  // this core once, in case it was waiting for just that.
  bool WaitPatiently(const JobSlot& slot, SteadyClock::duration patience) {
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
  std::vector<std::unique_ptr<JobSlot>> slots;
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
  JobSlot& slot = impl_->SlotOf(number);
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
  JobSlot& slot = impl_->SlotOf(number);
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

void WorkerPool::WaitForReaders(uint32_t job_number) const {
  while (MayRead(job_number)) std::this_thread::yield();
}

void WorkerPool::Quiesce() const {
  for (const Impl::ActiveJob& job : impl_->active) {
    while (job.number.load() != 0) std::this_thread::yield();
  }
}

}  // namespace sentencekv
