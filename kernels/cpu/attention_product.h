// Products of a few query rows with one block of keys or values. Included only
// through attention_kernel.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention_sources.h"
#include "kernels/cpu/simd.h"

namespace sentencekv {
namespace {

// c[m, :] = c[m, :] * factors[m] + sum over k in begin..end-1, in order, of
// a[m, k] * source[k, :]; c starts from zero where factors is null.
struct Product {
  const float* a = nullptr;
  int64_t a_stride = 0;
  int64_t begin = 0;
  int64_t end = 0;
  float* c = nullptr;
  int64_t c_stride = 0;
  const float* factors = nullptr;
};

// kRows rows by kVectors vectors, from vector `first` on, in registers.
template <int kRows, int kVectors, typename Source>
void MultiplyTile(const Product& product, int64_t first, const Source& source) {
  Simd::Vec sums[kRows][kVectors];
  float* c = product.c + first * Simd::kLanes;
  SKV_UNROLL
  for (int m = 0; m < kRows; ++m) {
    SKV_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      sums[m][j] = Simd::Zero();
      if (product.factors == nullptr) continue;
      sums[m][j] =
          Simd::Mul(Simd::Load(c + m * product.c_stride + j * Simd::kLanes),
                    Simd::Set(product.factors[m]));
    }
  }
  const float* a = product.a;
  const int64_t stride = product.a_stride;
  for (int64_t k = product.begin; k < product.end; ++k) {
    const auto row = source.template Row<kVectors>(k, first);
    // Keeps the smaller side in registers.
    if constexpr (kRows <= kVectors) {
      Simd::Vec left[kRows];
      SKV_UNROLL
      for (int m = 0; m < kRows; ++m) left[m] = Simd::Set(a[m * stride + k]);
      SKV_UNROLL
      for (int j = 0; j < kVectors; ++j) {
        const Simd::Vec right = row[j];
        SKV_UNROLL
        for (int m = 0; m < kRows; ++m) {
          sums[m][j] = Simd::Fma(left[m], right, sums[m][j]);
        }
      }
    } else {
      Simd::Vec right[kVectors];
      SKV_UNROLL
      for (int j = 0; j < kVectors; ++j) right[j] = row[j];
      SKV_UNROLL
      for (int m = 0; m < kRows; ++m) {
        const Simd::Vec left = Simd::Set(a[m * stride + k]);
        SKV_UNROLL
        for (int j = 0; j < kVectors; ++j) {
          sums[m][j] = Simd::Fma(left, right[j], sums[m][j]);
        }
      }
    }
  }
  SKV_UNROLL
  for (int m = 0; m < kRows; ++m) {
    SKV_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      Simd::Store(c + m * product.c_stride + j * Simd::kLanes, sums[m][j]);
    }
  }
}

// Vectors of a register tile: AVX-512 has 32 registers, the others 16.
template <int kRows>
constexpr int kTileVectors = Simd::kLanes == 16 || kRows <= 3 ? 4 : 2;

// All vectors 0..vectors-1 of a product of kRows rows.
template <int kRows, typename Source>
void MultiplyRows(const Product& product, int64_t vectors,
                  const Source& source) {
  constexpr int kWide = kTileVectors<kRows>;
  int64_t first = 0;
  for (; first + kWide <= vectors; first += kWide) {
    MultiplyTile<kRows, kWide>(product, first, source);
  }
  for (; first < vectors; ++first) {
    MultiplyTile<kRows, 1>(product, first, source);
  }
}

// The same for 1 to 6 rows.
template <typename Source>
void MultiplyStrip(int rows, const Product& product, int64_t vectors,
                   const Source& source) {
  switch (rows) {
    case 1:
      return MultiplyRows<1>(product, vectors, source);
    case 2:
      return MultiplyRows<2>(product, vectors, source);
    case 3:
      return MultiplyRows<3>(product, vectors, source);
    case 4:
      return MultiplyRows<4>(product, vectors, source);
    case 5:
      return MultiplyRows<5>(product, vectors, source);
    default:
      return MultiplyRows<6>(product, vectors, source);
  }
}

}  // namespace
}  // namespace sentencekv
