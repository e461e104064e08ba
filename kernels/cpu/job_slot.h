// One job of the worker pool as its threads see it: who takes which tile, and
// which tiles are done. Part of kernels/cpu/worker_pool.cc; nobody else's.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/check.h"
#include "kernels/cpu/aligned_memory.h"
#include "kernels/cpu/worker_pool.h"

namespace sentencekv {

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
// caller while no worker is inside it; see worker_pool.cc.
class JobSlot {
 public:
  explicit JobSlot(int num_threads)
      : shares_(static_cast<size_t>(num_threads)) {}

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
  enum TileState : uint8_t { kOpen, kTaken };

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

}  // namespace sentencekv
