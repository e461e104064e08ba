// What the operations of a decode step do to memory that every policy needs,
// and exact attention: the operations of Backend as LlamaModel issues them, on
// the simulated device.
#pragma once

#include <cstdint>

#include "tests/bench/counted_device.h"
#include "tests/bench/llama_shape.h"

namespace sentencekv {

// Of one layer but for attention, and of what comes before and after the
// layers, for `num_rows` decoding sequences.
struct DenseCounts {
  OperationCounts layer;
  OperationCounts outside;
};
DenseCounts CountDense(int64_t num_rows);

// Attention of one row to all of `num_tokens` tokens, in one layer. Long ones
// are not run: every number lies on the line through two short ones, which the
// program checks with a third.
OperationCounts CountFullAttention(int64_t num_tokens);

}  // namespace sentencekv
