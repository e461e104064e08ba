// Sharing of the row-wise operations among threads. Every row is computed by
// itself, so results do not depend on the sharing.
#pragma once

#include <cstdint>

#include "kernels/cpu/worker_pool.h"
#include "kernels/op_params.h"

namespace sentencekv {

// What a level provides: rows begin..end-1 of the operation.
struct VectorOpsKernels {
  void (*rms_norm_rows)(const RmsNormParams& params, int64_t begin,
                        int64_t end);
  void (*swiglu_rows)(const SwiGluParams& params, int64_t begin, int64_t end);
};

// REQUIRES of all: checked arguments, at least one row.
void RunRmsNorm(WorkerPool& pool, const RmsNormParams& params,
                const VectorOpsKernels& kernels);
void RunSwiGlu(WorkerPool& pool, const SwiGluParams& params,
               const VectorOpsKernels& kernels);
void RunGatherRows(WorkerPool& pool, const GatherRowsParams& params);
void RunCopyPages(WorkerPool& pool, const CopyPagesParams& params);

}  // namespace sentencekv
