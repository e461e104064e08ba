// How the entries of a sentence index lie in device memory: for each (layer, KV
// head), blocks of 16 entries, so that a score is a vertical sum over D as it
// is for keys.
//
//   [D][16] int8: the vectors, then [16] f32: what their elements are in units
//   of
//
// The vector of a sentence is the mean of its keys (SentenceKV, arXiv
// 2504.00970, equation 1) rounded to 8 bits: element = int8 * unit.
#pragma once

#include <cstdint>

namespace sentencekv {

inline constexpr int64_t kBlockEntries = 16;

constexpr int64_t SentenceBlockBytes(int64_t head_dim) {
  return kBlockEntries * (head_dim + static_cast<int64_t>(sizeof(float)));
}

// Blocks that hold so many entries.
constexpr int64_t SentenceBlocks(int64_t num_entries) {
  return (num_entries + kBlockEntries - 1) / kBlockEntries;
}

}  // namespace sentencekv
