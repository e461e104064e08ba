// Tokens that rows of a PagedStep attend to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/op_params.h"
#include "tests/support/paged_sequences.h"

namespace sentencekv {

// What one row attends to in one KV head, and memory for it.
struct TokenChoice {
  size_t sequence = 0;
  int64_t row = 0;  // in the step
  int64_t kv_head = 0;
  std::vector<int64_t> positions;  // ascending
  std::vector<int32_t> pages;
  std::vector<uint16_t> masks;

  // Points into this.
  SelectedTokens Selection() const {
    return {row, kv_head, pages.data(), masks.data(), std::ssize(pages)};
  }
};

TokenChoice Choose(const PagedStep& step, size_t sequence, int64_t row,
                   int64_t kv_head, std::vector<int64_t> positions);

std::vector<int64_t> Range(int64_t begin, int64_t end);

// Runs of 1 to 30 tokens with gaps of 1 to `gap` between them.
std::vector<int64_t> Runs(int64_t end, int64_t gap, std::mt19937& random);

}  // namespace sentencekv
