// Element types, and the two families of formats that weights come in:
//   SourceType    how a checkpoint file stores a matrix (GGML block formats
//   too); WeightFormat  how a backend keeps it after packing (at most two
//   quantised).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sentencekv {

// Element type of a plain tensor: activations are kF32; K and V any of them.
enum class DType : uint8_t { kF32, kF16, kBF16 };

constexpr int64_t SizeOf(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }
std::string_view Name(DType dtype);

// Storage type of a tensor in a checkpoint. Block formats follow GGML
// (https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h).
enum class SourceType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ4_K,
  kQ5_K,
  kQ6_K,
};

std::string_view Name(SourceType type);
// Elements in one block: 1, 32 or 256. Rows are whole numbers of blocks.
int64_t BlockElements(SourceType type);
// Bytes of one block.
int64_t BlockBytes(SourceType type);

// How a backend keeps a weight matrix. Quantised formats have blocks of 32
// columns: kQ4 is scale * q + minimum with q in 0..15, kQ8 is scale * q with
// q in -127..127; scales and minima are f16.
enum class WeightFormat : uint8_t { kF32, kF16, kBF16, kQ4, kQ8 };

std::string_view Name(WeightFormat format);
// The format a source type is packed into. kQ4_0, kQ4_1 and kQ4_K become kQ4
// and kQ8_0 and kQ5_0 become kQ8 without loss (but for f16 rounding of kQ4_K's
// products); kQ5_1, kQ5_K and kQ6_K are requantised to kQ8.
WeightFormat PackedFormat(SourceType type);

}  // namespace sentencekv
