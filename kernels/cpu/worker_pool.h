// Fixed pool of threads that share the tiles of one job at a time.
//
// The thread that calls takes tiles like the others, and a job ends when all
// tiles are done, not when all threads have arrived. A plain job waits for a
// worker that the system has descheduled in the middle of a tile. A repeatable
// job does not: the caller computes that tile again itself, and whichever
// thread commits it first wins.
//
// One caller at a time; bodies must not start jobs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace sentencekv {

class WorkerPool {
 public:
  // Calls body(context, tile) once for each tile in 0..num_tiles-1, on any
  // thread.
  using Body = void (*)(void* context, int64_t tile);

  // A job whose tiles may be computed twice.
  //
  // `compute` writes nothing but `scratch`, which is private to the thread and
  // aligned to 64 bytes. It may still run, its result being thrown away, after
  // RunRepeatable has returned: whatever it reads must stay unchanged until
  // MayRead(job number) is false, and exist until Quiesce.
  // `commit` is called once for each tile, before RunRepeatable returns, and
  // moves the result from `scratch` to where it belongs.
  struct RepeatableJob {
    int64_t num_tiles = 0;
    void (*compute)(const void* context, int64_t tile, void* scratch) = nullptr;
    void (*commit)(const void* context, int64_t tile,
                   const void* scratch) = nullptr;
    size_t scratch_bytes = 0;
    const void* context = nullptr;  // copied: must be trivially copyable
    size_t context_bytes = 0;       // at most kMaxContextBytes
  };
  static constexpr size_t kMaxContextBytes = 256;

  // num_threads counts the caller: 1 means no threads are started. At least 1.
  explicit WorkerPool(int num_threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  int num_threads() const;

  // Runs a job and returns when every tile is done. Writes of a body happen
  // before Run returns.
  void Run(int64_t num_tiles, Body body, void* context);

  // The same for any callable taking (int64_t tile). Not for files compiled
  // with -m flags: use Run there.
  template <typename F>
  void ParallelFor(int64_t num_tiles, const F& f) {
    Run(
        num_tiles,
        [](void* context, int64_t tile) {
          (*static_cast<const F*>(context))(tile);
        },
        const_cast<F*>(&f));
  }

  // Runs a repeatable job, returns when every tile is committed. The result is
  // the job's number, for MayRead.
  uint32_t RunRepeatable(const RepeatableJob& job);
  // Whether a worker left behind by that repeatable job may still be computing.
  // Once false, it computes no more (though a late worker that looks in and
  // finds nothing to do can make this true again for a moment).
  bool MayRead(uint32_t job_number) const;
  // Waits until MayRead is false.
  void WaitForReaders(uint32_t job_number) const;
  // Waits until no worker is inside any job.
  void Quiesce() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sentencekv
