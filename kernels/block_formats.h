// Reading the rows of checkpoint matrices: every SourceType to float, and the
// block formats to their integers without loss.
//
// Layouts follow GGML
// (https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h); all are
// little-endian and have no alignment. Pure functions, safe on any thread. Any
// bytes are accepted: a hostile file gives meaningless numbers, never a fault.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace sentencekv {

// Elements of a QuantGroup.
inline constexpr int64_t kGroupElements = 32;

// 32 consecutive elements of a row in a block format:
//   element[i] = scale[i / 16] * q[i] + minimum
// Both scales are equal but for Q6_K. Ranges of q: Q4_0 -8..7, Q4_1 and Q4_K
// 0..15, Q5_0 -16..15, Q5_1 and Q5_K 0..31, Q6_K -32..31, Q8_0 -128..127;
// minimum is 0 for Q8_0, Q4_0, Q5_0 and Q6_K.
struct QuantGroup {
  float scale[2];
  float minimum;
  int8_t q[kGroupElements];
};

// True for the block formats, which DecodeGroups takes.
bool IsQuantized(SourceType type);

// Decodes a row, or whole blocks of one, into num_elements / 32 groups.
// REQUIRES: IsQuantized(type); num_elements is a multiple of
// BlockElements(type); `row` has num_elements / BlockElements(type) blocks.
void DecodeGroups(SourceType type, const std::byte* row, int64_t num_elements,
                  QuantGroup* groups);

// Writes the values of a row, or of whole blocks of one, of any source type.
// REQUIRES: num_elements is a multiple of BlockElements(type).
void DequantizeRow(SourceType type, const std::byte* row, int64_t num_elements,
                   float* out);

}  // namespace sentencekv
