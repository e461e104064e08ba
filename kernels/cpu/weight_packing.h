// From checkpoint rows to the panels of kernels/cpu/weight_layout.h, and back
// for single rows. Pure functions, safe on any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/dtype.h"
#include "kernels/weight_matrix.h"

namespace sentencekv {

// Packs one panel, rows 16 * panel and on, of the matrix that stacks `parts`.
// `out` has PanelBytes(format, cols) bytes, all zero. Holds one row as floats
// at a time. REQUIRES: checked parts; for kQ4 every part's PackedFormat is
// kQ4; for kQ4 and kQ8 cols is a multiple of 32.
//
// kQ4 keeps the integers of Q4_0, Q4_1 and Q4_K; kQ8 those of Q8_0 and Q5_0.
// Anything else becomes kQ8 by rounding each 32 columns to scale * q with
// scale = max |value| / 127.
void PackPanel(std::span<const MatrixSource> parts, WeightFormat format,
               int64_t panel, std::byte* out);

// out[0..cols-1] = row `row` of a packed matrix.
void UnpackRow(const WeightMatrix& matrix, int64_t row, float* out);

}  // namespace sentencekv
