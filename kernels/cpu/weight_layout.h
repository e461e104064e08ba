// How the CPU keeps weight matrices and activations, shared by packing and by
// every level's kernels.
//
// Weights: panels of 16 rows, so that a vector lane is an output row and sums
// run down the columns: a result never depends on what else is computed beside
// it. The last panel is padded with zero weights. Within a panel, in order of
// columns (b: block of 32 columns, r: row 0..15 of the panel):
//
//   kQ4        [b]{ f16 scale[16]; f16 minimum[16]; u8 q[4][16][4] }, 320 bytes
//              q[j][r][i]: low nibble column 4j + i, high nibble 16 + 4j + i
//   kQ8        [b]{ f16 scale[16]; s8 q[8][16][4] }, 544 bytes
//              q[j][r][i]: column 4j + i
//   kF32/16/BF [column][16]
//
// Activations: tiles of R = 1, 2, 3, 4 or 6 rows. For quantised weights each
// block of 32 columns of a row is rounded to 8 bits, scale = max |x| / 127:
//
//   kQ4, kQ8   [b]{ s32 q[8][R], 4 signed bytes each: columns 4j..4j+3;
//                   f32 scale[R]; f32 scaled_sum[R] = scale * sum of q;
//                   s32 offset[R] = -128 * sum of q }, 44 R bytes
//              The offset undoes the addition of 128 to a kQ8 weight, which
//              makes it unsigned, as the dot product instructions want it.
//   floats     [column][R] f32
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace sentencekv {

inline constexpr int64_t kPanelRows = 16;
inline constexpr int64_t kBlockColumns = 32;
inline constexpr int64_t kQ4BlockBytes = 320;
inline constexpr int64_t kQ8BlockBytes = 544;
// Bytes of one activation row's share of a block.
inline constexpr int64_t kActivationBlockBytes = 44;
// Blocks whose largest magnitude is below this count as zeros, so that
// 127 / magnitude cannot overflow.
inline constexpr float kSmallestMagnitude = 1e-30f;
inline constexpr int kMaxTileRows = 6;

static inline bool HasBlocks(WeightFormat format) {
  return format == WeightFormat::kQ4 || format == WeightFormat::kQ8;
}

static inline int64_t PanelBytes(WeightFormat format, int64_t cols) {
  switch (format) {
    case WeightFormat::kQ4:
      return cols / kBlockColumns * kQ4BlockBytes;
    case WeightFormat::kQ8:
      return cols / kBlockColumns * kQ8BlockBytes;
    case WeightFormat::kF32:
      return cols * kPanelRows * 4;
    case WeightFormat::kF16:
    case WeightFormat::kBF16:
      return cols * kPanelRows * 2;
  }
  return 0;
}

static inline int64_t NumPanels(int64_t rows) {
  return (rows + kPanelRows - 1) / kPanelRows;
}

// Bytes of one row of activations in a tile.
static inline int64_t TileRowBytes(WeightFormat format, int64_t cols) {
  return HasBlocks(format) ? cols / kBlockColumns * kActivationBlockBytes
                           : cols * 4;
}

// How many of the remaining rows the next tile takes: tiles begin at multiples
// of kMaxTileRows, but for the second one of five last rows.
static inline int NextTileRows(int64_t remaining) {
  if (remaining == 5) return 3;
  return remaining < kMaxTileRows ? static_cast<int>(remaining) : kMaxTileRows;
}

}  // namespace sentencekv
