// Matrix products with AVX2, FMA and F16C: two vectors hold the 16 output rows
// of a panel.
//
// Same bits as matmul_avx512.cc: integer sums are exact, and the
// floating-point operations are the same in the same order.
#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/weight_layout.h"

namespace sentencekv {
namespace {

// How far ahead weights are fetched: memory answers in 100 to 200 ns, in which
// a core takes in up to 4 KiB (measured: better than 1 and 2 KiB by a tenth).
constexpr int64_t kPrefetchBytes = 4096;

// Keeps the compiler from moving additions past this point. Without it g++ 12
// and clang 14 gather all products of a block before adding them up, and
// spill some 48 vectors: half the speed.
inline void KeepHere(__m256i& value) { __asm__ volatile("" : "+x"(value)); }

template <int64_t kBytes>
inline void Prefetch(const std::byte* weights) {
  for (int64_t i = 0; i < kBytes; i += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(weights + kPrefetchBytes + i),
                 _MM_HINT_T0);
  }
}

inline __m256 LoadHalves(const std::byte* from) {
  return _mm256_cvtph_ps(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

inline __m256i LoadBytes(const std::byte* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

// A block of a tile of kRows rows; see weight_layout.h.
template <int kRows>
struct TileBlock {
  int32_t q[8][kRows];
  float scale[kRows];
  float scaled_sum[kRows];
  int32_t offset[kRows];
};

// Running sums of kRows rows of x times the 16 rows of a panel.
template <int kRows>
struct Totals {
  __m256 half[2][kRows];

  void Clear() {
    for (int h = 0; h < 2; ++h) {
      for (int m = 0; m < kRows; ++m) half[h][m] = _mm256_setzero_ps();
    }
  }
  void Store(const CpuKernels::PanelProduct& product, int64_t panel) const {
    float* out = product.out + panel * kPanelRows;
    for (int m = 0; m < kRows; ++m) {
      _mm256_storeu_ps(out + m * product.out_stride, half[0][m]);
      _mm256_storeu_ps(out + m * product.out_stride + 8, half[1][m]);
    }
  }
};

template <int kRows>
inline void AddQ4Block(const std::byte* weights, const TileBlock<kRows>& x,
                       Totals<kRows>& totals) {
  const __m256i nibble = _mm256_set1_epi8(15);
  // 16-bit sums of pairs of products: 8 steps of at most 2 * 15 * 127 = 3,810
  // stay below 2^15.
  __m256i sum[2][kRows];
  for (int h = 0; h < 2; ++h) {
    for (int m = 0; m < kRows; ++m) sum[h][m] = _mm256_setzero_si256();
  }
  for (int c = 0; c < 8; ++c) {
    __m256i q[2];
    for (int h = 0; h < 2; ++h) {
      q[h] = LoadBytes(weights + 64 + 64 * (c % 4) + 32 * h);
      if (c >= 4) q[h] = _mm256_srli_epi16(q[h], 4);
      q[h] = _mm256_and_si256(q[h], nibble);
    }
    for (int m = 0; m < kRows; ++m) {
      const __m256i columns = _mm256_set1_epi32(x.q[c][m]);
      for (int h = 0; h < 2; ++h) {
        sum[h][m] =
            _mm256_add_epi16(sum[h][m], _mm256_maddubs_epi16(q[h], columns));
      }
    }
    for (int h = 0; h < 2; ++h) {
      for (int m = 0; m < kRows; ++m) KeepHere(sum[h][m]);
    }
  }
  const __m256i ones = _mm256_set1_epi16(1);
  for (int h = 0; h < 2; ++h) {
    const __m256 scale = LoadHalves(weights + 16 * h);
    const __m256 minimum = LoadHalves(weights + 32 + 16 * h);
    for (int m = 0; m < kRows; ++m) {
      __m256 total = _mm256_fmadd_ps(minimum, _mm256_set1_ps(x.scaled_sum[m]),
                                     totals.half[h][m]);
      totals.half[h][m] = _mm256_fmadd_ps(
          _mm256_cvtepi32_ps(_mm256_madd_epi16(sum[h][m], ones)),
          _mm256_mul_ps(scale, _mm256_set1_ps(x.scale[m])), total);
    }
  }
}

// One half of the rows at a time: the signs need registers too.
template <int kRows>
inline void AddQ8Block(const std::byte* weights, const TileBlock<kRows>& x,
                       Totals<kRows>& totals) {
  const __m256i ones = _mm256_set1_epi16(1);
  for (int h = 0; h < 2; ++h) {
    __m256i sum[kRows];
    for (int m = 0; m < kRows; ++m) sum[m] = _mm256_setzero_si256();
    for (int c = 0; c < 8; ++c) {
      // |w| * (x with the sign of w): at most 2 * 128 * 127 in 16 bits.
      const __m256i q = LoadBytes(weights + 32 + 64 * c + 32 * h);
      const __m256i magnitude = _mm256_abs_epi8(q);
      for (int m = 0; m < kRows; ++m) {
        const __m256i columns =
            _mm256_sign_epi8(_mm256_set1_epi32(x.q[c][m]), q);
        sum[m] = _mm256_add_epi32(
            sum[m],
            _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, columns), ones));
      }
      for (int m = 0; m < kRows; ++m) KeepHere(sum[m]);
    }
    const __m256 scale = LoadHalves(weights + 16 * h);
    for (int m = 0; m < kRows; ++m) {
      totals.half[h][m] = _mm256_fmadd_ps(
          _mm256_cvtepi32_ps(sum[m]),
          _mm256_mul_ps(scale, _mm256_set1_ps(x.scale[m])), totals.half[h][m]);
    }
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
    Totals<kRows> totals;
    totals.Clear();
    for (int64_t b = 0; b < num_blocks; ++b) {
      Prefetch<kBytes>(weights);
      if constexpr (kFormat == WeightFormat::kQ4) {
        AddQ4Block<kRows>(weights, x[b], totals);
      } else {
        AddQ8Block<kRows>(weights, x[b], totals);
      }
      weights += kBytes;
    }
    totals.Store(product, panel);
  }
}

template <WeightFormat kFormat>
constexpr int64_t kColumnBytes = kPanelRows*(kFormat == WeightFormat::kF32 ? 4
                                                                           : 2);

// Half h of the weights of one column of a panel.
template <WeightFormat kFormat>
inline __m256 LoadColumn(const std::byte* column, int h) {
  if constexpr (kFormat == WeightFormat::kF32) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(column) + 8 * h);
  } else if constexpr (kFormat == WeightFormat::kF16) {
    return LoadHalves(column + 16 * h);
  } else {
    const __m128i halves =
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(column + 16 * h));
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }
}

template <WeightFormat kFormat, int kRows>
void MultiplyFloat(const CpuKernels::PanelProduct& product) {
  const std::byte* weights = product.panels;
  for (int64_t panel = 0; panel < product.num_panels; ++panel) {
    const auto* x = reinterpret_cast<const float*>(product.tile);
    Totals<kRows> totals;
    totals.Clear();
    for (int64_t k = 0; k < product.cols; ++k) {
      const __m256 w0 = LoadColumn<kFormat>(weights, 0);
      const __m256 w1 = LoadColumn<kFormat>(weights, 1);
      for (int m = 0; m < kRows; ++m) {
        const __m256 value = _mm256_set1_ps(x[m]);
        totals.half[0][m] = _mm256_fmadd_ps(w0, value, totals.half[0][m]);
        totals.half[1][m] = _mm256_fmadd_ps(w1, value, totals.half[1][m]);
      }
      weights += kColumnBytes<kFormat>;
      x += kRows;
    }
    totals.Store(product, panel);
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

inline __m256i Magnitudes(__m256 x) {
  return _mm256_and_si256(_mm256_castps_si256(x),
                          _mm256_set1_epi32(0x7fffffff));
}

inline int32_t LargestOf(__m256i values) {
  __m128i v = _mm_max_epi32(_mm256_castsi256_si128(values),
                            _mm256_extracti128_si256(values, 1));
  v = _mm_max_epi32(v, _mm_shuffle_epi32(v, 0x4e));
  v = _mm_max_epi32(v, _mm_shuffle_epi32(v, 0xb1));
  return _mm_cvtsi128_si32(v);
}

inline int32_t SumOf(__m256i values) {
  __m128i v = _mm_add_epi32(_mm256_castsi256_si128(values),
                            _mm256_extracti128_si256(values, 1));
  v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0x4e));
  v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0xb1));
  return _mm_cvtsi128_si32(v);
}

// Quantises 32 values of row m into its share of a block of a tile.
void QuantizeBlock(const float* x, int num_rows, int m, std::byte* block) {
  const __m256 v[4] = {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8),
                       _mm256_loadu_ps(x + 16), _mm256_loadu_ps(x + 24)};
  // Magnitudes compare as integers, which ranks NaN above everything.
  const int32_t largest = LargestOf(
      _mm256_max_epi32(_mm256_max_epi32(Magnitudes(v[0]), Magnitudes(v[1])),
                       _mm256_max_epi32(Magnitudes(v[2]), Magnitudes(v[3]))));
  const float magnitude = __builtin_bit_cast(float, largest);
  float scale = 0;
  float scaled_sum = 0;
  int32_t sum = 0;
  alignas(32) int32_t words[8] = {};
  if (largest >= 0x7f800000) {
    scale = scaled_sum = magnitude - magnitude;  // NaN
  } else if (magnitude >= kSmallestMagnitude) {
    scale = magnitude / 127.0f;
    const __m256 inverse = _mm256_set1_ps(127.0f / magnitude);
    __m256i q[4];
    for (int i = 0; i < 4; ++i) {
      q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
    }
    sum = SumOf(_mm256_add_epi32(_mm256_add_epi32(q[0], q[1]),
                                 _mm256_add_epi32(q[2], q[3])));
    scaled_sum = scale * static_cast<float>(sum);
    // Packing works within 128-bit lanes; the permutation puts the words of
    // four columns in order again.
    const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]),
                                             _mm256_packs_epi32(q[2], q[3]));
    _mm256_store_si256(reinterpret_cast<__m256i*>(words),
                       _mm256_permutevar8x32_epi32(
                           bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
  }
  auto* out = reinterpret_cast<int32_t*>(block) + m;
  for (int j = 0; j < 8; ++j) out[j * num_rows] = words[j];
  out[8 * num_rows] = __builtin_bit_cast(int32_t, scale);
  out[9 * num_rows] = __builtin_bit_cast(int32_t, scaled_sum);
  out[10 * num_rows] = -128 * sum;
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

void FillMatMulAvx2(CpuKernels& kernels) {
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
