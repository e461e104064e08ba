// Matrix products in plain C++: the level every machine has.
//
// The integer sums are exact and the floating-point operations on them come in
// the same order at every level; here each product is rounded before it is
// added, where the other levels fuse the two.
#include <cmath>
#include <cstring>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/weight_layout.h"
#include "kernels/half.h"

namespace sentencekv {
namespace {

constexpr int kLanes = static_cast<int>(kPanelRows);

// One row's share of one block of a tile.
struct QuantizedBlock {
  int8_t q[kBlockColumns];
  float scale;
  float scaled_sum;
  int32_t offset;
};

// Rounds to nearest, ties to even: 1.5 * 2^23 leaves no bits for a fraction.
// |value| is below 2^22.
inline int32_t RoundToInt(float value) {
  const float shifted = value + 12582912.0f;
  return __builtin_bit_cast(int32_t, shifted) - 0x4b400000;
}

QuantizedBlock QuantizeBlock(const float* x) {
  // Magnitudes compare as integers, which ranks NaN above everything: a bad
  // value in the block makes the whole block's contribution NaN.
  uint32_t largest = 0;
  for (int64_t i = 0; i < kBlockColumns; ++i) {
    const uint32_t magnitude = __builtin_bit_cast(uint32_t, x[i]) & 0x7fffffffu;
    largest = magnitude > largest ? magnitude : largest;
  }
  QuantizedBlock block = {};
  const float magnitude = __builtin_bit_cast(float, largest);
  if (!(largest < 0x7f800000u)) {
    block.scale = block.scaled_sum = magnitude - magnitude;  // NaN
    return block;
  }
  if (magnitude < kSmallestMagnitude) return block;
  block.scale = magnitude / 127.0f;
  const float inverse = 127.0f / magnitude;
  int32_t sum = 0;
  for (int64_t i = 0; i < kBlockColumns; ++i) {
    const int32_t q = RoundToInt(x[i] * inverse);
    block.q[i] = static_cast<int8_t>(q);
    sum += q;
  }
  block.scaled_sum = block.scale * static_cast<float>(sum);
  block.offset = -128 * sum;
  return block;
}

void PrepareQuantized(const float* x, int64_t cols, int num_rows,
                      std::byte* tile) {
  const int64_t row_words = num_rows;
  for (int64_t b = 0; b < cols / kBlockColumns; ++b) {
    std::byte* out = tile + b * kActivationBlockBytes * num_rows;
    for (int m = 0; m < num_rows; ++m) {
      const QuantizedBlock block =
          QuantizeBlock(x + m * cols + b * kBlockColumns);
      for (int j = 0; j < 8; ++j) {
        std::memcpy(out + 4 * (j * row_words + m), block.q + 4 * j, 4);
      }
      std::memcpy(out + 4 * (8 * row_words + m), &block.scale, 4);
      std::memcpy(out + 4 * (9 * row_words + m), &block.scaled_sum, 4);
      std::memcpy(out + 4 * (10 * row_words + m), &block.offset, 4);
    }
  }
}

void PrepareFloat(const float* x, int64_t cols, int num_rows, std::byte* tile) {
  float* out = reinterpret_cast<float*>(tile);
  for (int m = 0; m < num_rows; ++m) {
    for (int64_t k = 0; k < cols; ++k) out[k * num_rows + m] = x[m * cols + k];
  }
}

QuantizedBlock LoadBlock(const std::byte* tile_block, int num_rows, int m) {
  QuantizedBlock block;
  for (int j = 0; j < 8; ++j) {
    std::memcpy(block.q + 4 * j, tile_block + 4 * (j * num_rows + m), 4);
  }
  std::memcpy(&block.scale, tile_block + 4 * (8 * num_rows + m), 4);
  std::memcpy(&block.scaled_sum, tile_block + 4 * (9 * num_rows + m), 4);
  std::memcpy(&block.offset, tile_block + 4 * (10 * num_rows + m), 4);
  return block;
}

void LoadHalves(const std::byte* source, float* out) {
  for (int r = 0; r < kLanes; ++r) {
    uint16_t half;
    std::memcpy(&half, source + 2 * r, 2);
    out[r] = F16ToF32(half);
  }
}

// sums[r] += the products of four columns of 16 rows.
inline void AddColumns(const int8_t* weights, const int8_t* x, int32_t* sums) {
  for (int r = 0; r < kLanes; ++r) {
    for (int i = 0; i < 4; ++i) sums[r] += weights[4 * r + i] * x[i];
  }
}

// The weights of one block of a panel, unpacked once for all rows of a tile.
struct WeightBlock {
  float scale[kLanes];
  float minimum[kLanes];
  int8_t q[8][kLanes * 4];
};

void UnpackQ4Block(const std::byte* source, WeightBlock* block) {
  LoadHalves(source, block->scale);
  LoadHalves(source + 32, block->minimum);
  const auto* q = reinterpret_cast<const uint8_t*>(source + 64);
  for (int j = 0; j < 4; ++j) {
    for (int i = 0; i < kLanes * 4; ++i) {
      block->q[j][i] = static_cast<int8_t>(q[j * 64 + i] & 15);
      block->q[j + 4][i] = static_cast<int8_t>(q[j * 64 + i] >> 4);
    }
  }
}

void UnpackQ8Block(const std::byte* source, WeightBlock* block) {
  LoadHalves(source, block->scale);
  std::memcpy(block->q, source + 32, sizeof(block->q));
}

void ClearOutput(const CpuKernels::PanelProduct& product) {
  for (int m = 0; m < product.num_rows; ++m) {
    std::memset(product.out + m * product.out_stride, 0,
                sizeof(float) * kLanes * product.num_panels);
  }
}

template <bool kHasMinimum>
void MultiplyQuantized(const CpuKernels::PanelProduct& product) {
  constexpr int64_t kBytes = kHasMinimum ? kQ4BlockBytes : kQ8BlockBytes;
  const int64_t num_blocks = product.cols / kBlockColumns;
  ClearOutput(product);
  const std::byte* source = product.panels;
  for (int64_t panel = 0; panel < product.num_panels; ++panel) {
    const std::byte* tile = product.tile;
    for (int64_t b = 0; b < num_blocks; ++b) {
      WeightBlock weights;
      kHasMinimum ? UnpackQ4Block(source, &weights)
                  : UnpackQ8Block(source, &weights);
      for (int m = 0; m < product.num_rows; ++m) {
        const QuantizedBlock x = LoadBlock(tile, product.num_rows, m);
        int32_t sums[kLanes] = {};
        for (int j = 0; j < 8; ++j) AddColumns(weights.q[j], x.q + 4 * j, sums);
        float* out = product.out + m * product.out_stride + panel * kLanes;
        for (int r = 0; r < kLanes; ++r) {
          if (kHasMinimum) out[r] += weights.minimum[r] * x.scaled_sum;
          const float scale = weights.scale[r] * x.scale;
          out[r] += static_cast<float>(sums[r]) * scale;
        }
      }
      source += kBytes;
      tile += kActivationBlockBytes * product.num_rows;
    }
  }
}

template <WeightFormat kFormat>
void LoadWeights(const std::byte* source, float* out) {
  if constexpr (kFormat == WeightFormat::kF32) {
    std::memcpy(out, source, sizeof(float) * kLanes);
  } else if constexpr (kFormat == WeightFormat::kF16) {
    LoadHalves(source, out);
  } else {
    for (int r = 0; r < kLanes; ++r) {
      uint16_t half;
      std::memcpy(&half, source + 2 * r, 2);
      out[r] = Bf16ToF32(half);
    }
  }
}

template <WeightFormat kFormat>
void MultiplyFloat(const CpuKernels::PanelProduct& product) {
  constexpr int64_t kBytes = kLanes * (kFormat == WeightFormat::kF32 ? 4 : 2);
  const float* x = reinterpret_cast<const float*>(product.tile);
  const std::byte* source = product.panels;
  for (int64_t panel = 0; panel < product.num_panels; ++panel) {
    float sums[kMaxTileRows][kLanes] = {};
    for (int64_t k = 0; k < product.cols; ++k) {
      float weights[kLanes];
      LoadWeights<kFormat>(source, weights);
      source += kBytes;
      for (int m = 0; m < product.num_rows; ++m) {
        const float value = x[k * product.num_rows + m];
        for (int r = 0; r < kLanes; ++r) sums[m][r] += weights[r] * value;
      }
    }
    for (int m = 0; m < product.num_rows; ++m) {
      std::memcpy(product.out + m * product.out_stride + panel * kLanes,
                  sums[m], sizeof(sums[m]));
    }
  }
}

}  // namespace

void FillMatMulPortable(CpuKernels& kernels) {
  for (int format = 0; format < 5; ++format) {
    kernels.prepare_rows[format] = HasBlocks(static_cast<WeightFormat>(format))
                                       ? PrepareQuantized
                                       : PrepareFloat;
  }
  auto& multiply = kernels.multiply_panels;
  multiply[static_cast<int>(WeightFormat::kF32)] =
      MultiplyFloat<WeightFormat::kF32>;
  multiply[static_cast<int>(WeightFormat::kF16)] =
      MultiplyFloat<WeightFormat::kF16>;
  multiply[static_cast<int>(WeightFormat::kBF16)] =
      MultiplyFloat<WeightFormat::kBF16>;
  multiply[static_cast<int>(WeightFormat::kQ4)] = MultiplyQuantized<true>;
  multiply[static_cast<int>(WeightFormat::kQ8)] = MultiplyQuantized<false>;
}

}  // namespace sentencekv
