// Sharing of one attention operation among threads; see attention_tile.h for
// the arithmetic.
#pragma once

#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/worker_pool.h"
#include "kernels/op_params.h"

namespace sentencekv {

// Cuts the step into tiles and runs them. REQUIRES: checked arguments, at least
// one sequence. Scratch belongs to the threads and is kept for the next call.
void RunAttention(WorkerPool& pool, const AttentionParams& params,
                  const AttentionKernels& kernels);

}  // namespace sentencekv
