// Cuts rows of equal cost into tiles for the worker pool.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/worker_pool.h"

namespace sentencekv {

// Calls body(begin, end) for runs of rows that cover 0..num_rows-1, each of at
// least `least_rows`: waking a thread costs microseconds, and a run should be
// worth it. A single run is done by the caller.
template <typename Body>
void ForRowTiles(WorkerPool& pool, int64_t num_rows, int64_t least_rows,
                 Body&& body) {
  least_rows = std::max<int64_t>(least_rows, 1);
  // Four runs for each thread even out what else the machine does.
  const int64_t most_tiles = int64_t{4} * pool.num_threads();
  const int64_t rows =
      std::max(least_rows, (num_rows + most_tiles - 1) / most_tiles);
  const int64_t num_tiles = (num_rows + rows - 1) / rows;
  if (num_tiles <= 1 || pool.num_threads() == 1) {
    if (num_rows > 0) body(int64_t{0}, num_rows);
    return;
  }
  pool.ParallelFor(num_tiles, [&](int64_t tile) {
    body(tile * rows, std::min(num_rows, (tile + 1) * rows));
  });
}

}  // namespace sentencekv
