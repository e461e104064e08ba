// Fixed pool of threads that share the tiles of one job at a time.
//
// The thread that calls Run takes tiles like the others, and a job ends when
// all tiles are done, not when all threads have arrived: a worker that the
// system has descheduled delays at most the tile it holds.
#pragma once

#include <cstdint>
#include <memory>

namespace sentencekv {

class WorkerPool {
 public:
  // A job: calls body(context, tile) once for each tile in 0..num_tiles-1, on
  // any thread.
  using Body = void (*)(void* context, int64_t tile);

  // num_threads counts the caller: 1 means no threads are started. At least 1.
  explicit WorkerPool(int num_threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  int num_threads() const;

  // Runs the job and returns when every tile is done. One caller at a time;
  // bodies must not call Run. Writes of a body happen before Run returns.
  void Run(int64_t num_tiles, Body body, void* context);

  // The same for any callable taking (int64_t tile).
  template <typename F>
  void ParallelFor(int64_t num_tiles, F&& f) {
    Run(
        num_tiles,
        [](void* context, int64_t tile) { (*static_cast<F*>(context))(tile); },
        &f);
  }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sentencekv
