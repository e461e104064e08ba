// What a cache policy asks of the keys of a sequence, on the CPU: how much
// attention they get, and their values. Once a prompt, not once a step: plain
// loops, one for all levels.
#pragma once

#include "kernels/cpu/worker_pool.h"
#include "kernels/op_params.h"

namespace sentencekv {

// Query heads are shared among the threads. Sums over D and over the queries
// are f32, in order; the sum of a softmax is f64. Slots of a page that hold no
// token of the sequence have no influence. REQUIRES: checked arguments, at
// least one query.
void ComputeAttentionMass(WorkerPool& pool, const AttentionMassParams& params);

// REQUIRES: checked arguments.
void ReadKeyRows(const ReadKeysParams& params);

}  // namespace sentencekv
