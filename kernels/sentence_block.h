// How the entries of a sentence index lie in device memory: for each (layer, KV
// head), blocks of 16 entries. A block has one or two vectors, so that a score
// is a vertical sum over D as it is for keys:
//
//   [vectors] of: [D][16] int8, or [16][D] where a score takes one entry at a
//   time, then [16] f32: what their elements are in units of
//
//   kMean    the mean of the sentence's keys (SentenceKV, arXiv 2504.00970,
//            equation 1)
//   kMinMax  middle and half width of the box around the keys: q . middle +
//            |q| . half is the bound of Quest (arXiv 2406.10774)
//   kSign    mean, and [16][D] mean absolute deviation: a key is about mean +
//            deviation x sign(key - mean). The signs lie apart, by position:
//            strips of 16 tokens, [D] uint16, bit t for token t of the strip
#pragma once

#include <cstdint>

namespace sentencekv {

enum class SentenceIndexKind : uint8_t { kMean, kMinMax, kSign };

inline constexpr int64_t kBlockEntries = 16;

constexpr int64_t NumEntryVectors(SentenceIndexKind kind) {
  return kind == SentenceIndexKind::kMean ? 1 : 2;
}

// Bytes of one of a block's vectors.
constexpr int64_t SentenceVectorBytes(int64_t head_dim) {
  return kBlockEntries * (head_dim + static_cast<int64_t>(sizeof(float)));
}

constexpr int64_t SentenceBlockBytes(SentenceIndexKind kind, int64_t head_dim) {
  return NumEntryVectors(kind) * SentenceVectorBytes(head_dim);
}

// Blocks that hold so many entries.
constexpr int64_t SentenceBlocks(int64_t num_entries) {
  return (num_entries + kBlockEntries - 1) / kBlockEntries;
}

// Bytes of the signs of 16 tokens.
constexpr int64_t SignStripBytes(int64_t head_dim) {
  return head_dim * static_cast<int64_t>(sizeof(uint16_t));
}

}  // namespace sentencekv
