// Matrix products with AVX-512 and VNNI: a vector is the 16 output rows of a
// panel, and vpdpbusd multiplies four columns of each by four of x at once.
//
// Same bits as matmul_avx2.cc: integer sums are exact, and the floating-point
// operations are the same in the same order.
#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/weight_layout.h"

namespace sentencekv {
namespace {

// How far ahead weights are fetched: memory answers in 100 to 200 ns, in which
// a core takes in up to 4 KiB (measured: better than 1 and 2 KiB by a tenth).
constexpr int64_t kPrefetchBytes = 4096;

template <int64_t kBytes>
inline void Prefetch(const std::byte* weights) {
  for (int64_t i = 0; i < kBytes; i += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(weights + kPrefetchBytes + i),
                 _MM_HINT_T0);
  }
}

inline __m512 LoadHalves(const std::byte* from) {
  return _mm512_cvtph_ps(
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

inline __m512i LoadBytes(const std::byte* from) {
  return _mm512_loadu_si512(from);
}

// A block of a tile of kRows rows; see weight_layout.h.
template <int kRows>
struct TileBlock {
  int32_t q[8][kRows];
  float scale[kRows];
  float scaled_sum[kRows];
  int32_t offset[kRows];
};

// Rows of x times the 16 rows of a panel, [kRows][16].
template <int kRows>
inline void StoreTotals(const __m512 (&total)[kRows],
                        const CpuKernels::PanelProduct& product,
                        int64_t panel) {
  for (int m = 0; m < kRows; ++m) {
    _mm512_storeu_ps(product.out + m * product.out_stride + panel * kPanelRows,
                     total[m]);
  }
}

// total + sum * (weight_scale * x_scale): a block's integer sums.
inline __m512 AddScaled(__m512 total, __m512i sum, __m512 weight_scale,
                        float x_scale) {
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum),
                         _mm512_mul_ps(weight_scale, _mm512_set1_ps(x_scale)),
                         total);
}

template <int kRows>
inline void AddQ4Block(const std::byte* weights, const TileBlock<kRows>& x,
                       __m512 (&total)[kRows]) {
  const __m512i nibble = _mm512_set1_epi8(15);
  __m512i sum[kRows];
  for (int m = 0; m < kRows; ++m) sum[m] = _mm512_setzero_si512();
  for (int c = 0; c < 4; ++c) {
    const __m512i pairs = LoadBytes(weights + 64 + 64 * c);
    const __m512i low = _mm512_and_si512(pairs, nibble);
    const __m512i high = _mm512_and_si512(_mm512_srli_epi16(pairs, 4), nibble);
    for (int m = 0; m < kRows; ++m) {
      sum[m] = _mm512_dpbusd_epi32(sum[m], low, _mm512_set1_epi32(x.q[c][m]));
      sum[m] =
          _mm512_dpbusd_epi32(sum[m], high, _mm512_set1_epi32(x.q[c + 4][m]));
    }
  }
  const __m512 scale = LoadHalves(weights);
  const __m512 minimum = LoadHalves(weights + 32);
  for (int m = 0; m < kRows; ++m) {
    total[m] =
        _mm512_fmadd_ps(minimum, _mm512_set1_ps(x.scaled_sum[m]), total[m]);
    total[m] = AddScaled(total[m], sum[m], scale, x.scale[m]);
  }
}

template <int kRows>
inline void AddQ8Block(const std::byte* weights, const TileBlock<kRows>& x,
                       __m512 (&total)[kRows]) {
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80));
  __m512i sum[kRows];
  for (int m = 0; m < kRows; ++m) sum[m] = _mm512_set1_epi32(x.offset[m]);
  for (int c = 0; c < 8; ++c) {
    const __m512i q = _mm512_xor_si512(LoadBytes(weights + 32 + 64 * c), flip);
    for (int m = 0; m < kRows; ++m) {
      sum[m] = _mm512_dpbusd_epi32(sum[m], q, _mm512_set1_epi32(x.q[c][m]));
    }
  }
  const __m512 scale = LoadHalves(weights);
  for (int m = 0; m < kRows; ++m) {
    total[m] = AddScaled(total[m], sum[m], scale, x.scale[m]);
  }
}

template <WeightFormat kFormat, int kRows>
void MultiplyQuantized(const CpuKernels::PanelProduct& product) {
  constexpr int64_t kBytes =
      kFormat == WeightFormat::kQ4 ? kQ4BlockBytes : kQ8BlockBytes;
  const int64_t num_blocks = product.cols / kBlockColumns;
  const std::byte* weights = product.panels;
  for (int64_t panel = 0; panel < product.num_panels; ++panel) {
    const auto* x = reinterpret_cast<const TileBlock<kRows>*>(product.tile);
    __m512 total[kRows];
    for (int m = 0; m < kRows; ++m) total[m] = _mm512_setzero_ps();
    for (int64_t b = 0; b < num_blocks; ++b) {
      Prefetch<kBytes>(weights);
      if constexpr (kFormat == WeightFormat::kQ4) {
        AddQ4Block<kRows>(weights, x[b], total);
      } else {
        AddQ8Block<kRows>(weights, x[b], total);
      }
      weights += kBytes;
    }
    StoreTotals(total, product, panel);
  }
}

template <WeightFormat kFormat>
constexpr int64_t kColumnBytes = kPanelRows*(kFormat == WeightFormat::kF32 ? 4
                                                                           : 2);

// The weights of one column of a panel.
template <WeightFormat kFormat>
inline __m512 LoadColumn(const std::byte* from) {
  if constexpr (kFormat == WeightFormat::kF32) {
    return _mm512_loadu_ps(from);
  } else if constexpr (kFormat == WeightFormat::kF16) {
    return LoadHalves(from);
  } else {
    const __m256i halves =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
}

// kPanels panels side by side: one chain of additions alone would wait for
// each sum before the next.
template <WeightFormat kFormat, int kRows, int kPanels>
void MultiplyFloatPanels(const CpuKernels::PanelProduct& product,
                         int64_t panel) {
  const int64_t panel_bytes = product.cols * kColumnBytes<kFormat>;
  const std::byte* weights = product.panels + panel * panel_bytes;
  const auto* x = reinterpret_cast<const float*>(product.tile);
  __m512 total[kPanels][kRows];
  for (int p = 0; p < kPanels; ++p) {
    for (int m = 0; m < kRows; ++m) total[p][m] = _mm512_setzero_ps();
  }
  for (int64_t k = 0; k < product.cols; ++k) {
    for (int p = 0; p < kPanels; ++p) {
      const __m512 w = LoadColumn<kFormat>(weights + p * panel_bytes);
      for (int m = 0; m < kRows; ++m) {
        total[p][m] = _mm512_fmadd_ps(w, _mm512_set1_ps(x[m]), total[p][m]);
      }
    }
    weights += kColumnBytes<kFormat>;
    x += kRows;
  }
  for (int p = 0; p < kPanels; ++p) {
    StoreTotals(total[p], product, panel + p);
  }
}

template <WeightFormat kFormat, int kRows>
void MultiplyFloat(const CpuKernels::PanelProduct& product) {
  int64_t panel = 0;
  for (; panel + 2 <= product.num_panels; panel += 2) {
    MultiplyFloatPanels<kFormat, kRows, 2>(product, panel);
  }
  if (panel < product.num_panels) {
    MultiplyFloatPanels<kFormat, kRows, 1>(product, panel);
  }
}

template <WeightFormat kFormat, int kRows>
void MultiplyRows(const CpuKernels::PanelProduct& product) {
  if constexpr (kFormat == WeightFormat::kQ4 || kFormat == WeightFormat::kQ8) {
    MultiplyQuantized<kFormat, kRows>(product);
  } else {
    MultiplyFloat<kFormat, kRows>(product);
  }
}

template <WeightFormat kFormat>
void Multiply(const CpuKernels::PanelProduct& product) {
  switch (product.num_rows) {
    case 1:
      return MultiplyRows<kFormat, 1>(product);
    case 2:
      return MultiplyRows<kFormat, 2>(product);
    case 3:
      return MultiplyRows<kFormat, 3>(product);
    case 4:
      return MultiplyRows<kFormat, 4>(product);
    default:
      return MultiplyRows<kFormat, 6>(product);
  }
}

// Quantises 32 values of row m into its share of a block of a tile.
void QuantizeBlock(const float* x, int num_rows, int m, std::byte* block) {
  const __m512 x0 = _mm512_loadu_ps(x);
  const __m512 x1 = _mm512_loadu_ps(x + 16);
  // Magnitudes compare as integers, which ranks NaN above everything.
  const __m512i magnitude_mask = _mm512_set1_epi32(0x7fffffff);
  const auto largest =
      static_cast<uint32_t>(_mm512_reduce_max_epi32(_mm512_max_epi32(
          _mm512_and_si512(_mm512_castps_si512(x0), magnitude_mask),
          _mm512_and_si512(_mm512_castps_si512(x1), magnitude_mask))));
  const float magnitude = __builtin_bit_cast(float, largest);
  float scale = 0;
  float scaled_sum = 0;
  int32_t sum = 0;
  alignas(32) int32_t q[8] = {};
  if (largest >= 0x7f800000u) {
    scale = scaled_sum = magnitude - magnitude;  // NaN
  } else if (magnitude >= kSmallestMagnitude) {
    scale = magnitude / 127.0f;
    const __m512 inverse = _mm512_set1_ps(127.0f / magnitude);
    const __m512i q0 = _mm512_cvtps_epi32(_mm512_mul_ps(x0, inverse));
    const __m512i q1 = _mm512_cvtps_epi32(_mm512_mul_ps(x1, inverse));
    _mm_store_si128(reinterpret_cast<__m128i*>(q), _mm512_cvtepi32_epi8(q0));
    _mm_store_si128(reinterpret_cast<__m128i*>(q + 4),
                    _mm512_cvtepi32_epi8(q1));
    sum = _mm512_reduce_add_epi32(_mm512_add_epi32(q0, q1));
    scaled_sum = scale * static_cast<float>(sum);
  }
  auto* words = reinterpret_cast<int32_t*>(block) + m;
  for (int j = 0; j < 8; ++j) words[j * num_rows] = q[j];
  words[8 * num_rows] = __builtin_bit_cast(int32_t, scale);
  words[9 * num_rows] = __builtin_bit_cast(int32_t, scaled_sum);
  words[10 * num_rows] = -128 * sum;
}

void PrepareQuantized(const float* x, int64_t cols, int num_rows,
                      std::byte* tile) {
  for (int64_t b = 0; b < cols / kBlockColumns; ++b) {
    for (int m = 0; m < num_rows; ++m) {
      QuantizeBlock(x + m * cols + b * kBlockColumns, num_rows, m,
                    tile + b * kActivationBlockBytes * num_rows);
    }
  }
}

}  // namespace

void FillMatMulAvx512(CpuKernels& kernels) {
  kernels.prepare_rows[static_cast<int>(WeightFormat::kQ4)] = PrepareQuantized;
  kernels.prepare_rows[static_cast<int>(WeightFormat::kQ8)] = PrepareQuantized;
  auto& multiply = kernels.multiply_panels;
  multiply[static_cast<int>(WeightFormat::kF32)] = Multiply<WeightFormat::kF32>;
  multiply[static_cast<int>(WeightFormat::kF16)] = Multiply<WeightFormat::kF16>;
  multiply[static_cast<int>(WeightFormat::kBF16)] =
      Multiply<WeightFormat::kBF16>;
  multiply[static_cast<int>(WeightFormat::kQ4)] = Multiply<WeightFormat::kQ4>;
  multiply[static_cast<int>(WeightFormat::kQ8)] = Multiply<WeightFormat::kQ8>;
}

}  // namespace sentencekv
