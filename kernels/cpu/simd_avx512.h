// Simd with AVX-512 F, BW, VL and DQ: 16 floats. See simd.h.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/exp2_fraction.h"

namespace sentencekv {
namespace {

struct Simd {
  using Vec = __m512;
  static constexpr int kLanes = 16;

  static Vec Zero() { return _mm512_setzero_ps(); }
  static Vec Set(float x) { return _mm512_set1_ps(x); }
  static Vec Load(const float* from) { return _mm512_loadu_ps(from); }
  static void Store(float* to, Vec x) { _mm512_storeu_ps(to, x); }

  static Vec LoadI8(const std::byte* from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  }
  static Vec LoadF16(const std::byte* from) {
    return _mm512_cvtph_ps(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static Vec LoadBf16(const std::byte* from) {
    const __m256i halves =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
  static void StoreF16(std::byte* to, Vec x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }
  static void StoreBf16(std::byte* to, Vec x) {
    // As F32ToBf16: adds half a step less the lowest kept bit's complement.
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd =
        _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(
        bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i kept =
        _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(kept, 16)));
  }

  static Vec Add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
  static Vec Sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
  static Vec Mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
  static Vec Div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
  static Vec Fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
  static Vec Max(Vec a, Vec b) { return _mm512_max_ps(a, b); }

  static float First(Vec x) { return _mm512_cvtss_f32(x); }
  static float Sum(Vec x) {
    const __m256 y =
        _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 z =
        _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    z = _mm_add_ps(z, _mm_movehl_ps(z, z));
    return _mm_cvtss_f32(_mm_add_ss(z, _mm_movehdup_ps(z)));
  }
  static float MaxLane(Vec x) {
    const __m256 y =
        _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 z =
        _mm_max_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    z = _mm_max_ps(z, _mm_movehl_ps(z, z));
    return _mm_cvtss_f32(_mm_max_ss(z, _mm_movehdup_ps(z)));
  }

  static Vec Pick(uint32_t bits, Vec a, Vec b) {
    return _mm512_mask_mov_ps(b, static_cast<__mmask16>(bits), a);
  }
  static uint32_t PositiveBits(Vec x) {
    return _mm512_cmp_ps_mask(x, Zero(), _CMP_GT_OQ);
  }
  static Vec KeepFirst(Vec x, int64_t count) {
    const auto mask = static_cast<__mmask16>((1u << count) - 1);
    return _mm512_mask_mov_ps(Set(-__builtin_inff()), mask, x);
  }
  static Vec RotatePairs(Vec x, Vec cos_sin) {
    const Vec crossed =
        Mul(_mm512_permute_ps(x, 0xb1), _mm512_movehdup_ps(cos_sin));
    return _mm512_fmaddsub_ps(x, _mm512_moveldup_ps(cos_sin), crossed);
  }

  static Vec Exp2NonPositive(Vec x) {
    // The reduced argument of -infinity is 0, and scalef makes 0 of it.
    const Vec fraction = _mm512_reduce_ps(x, _MM_FROUND_TO_NEAREST_INT);
    return _mm512_scalef_ps(Exp2Fraction<Simd>(fraction),
                            _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT));
  }
  static Vec Exp2(Vec x) { return Exp2NonPositive(x); }  // scalef saturates

  using Ints = __m512i;
  using Quads = __m512i;
  static Ints ScaleBytes(Ints sums, const int16_t* factors,
                         const std::byte* from, std::byte* to) {
    const __m512i wide = _mm512_cvtepi8_epi16(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    const __m512i scaled =
        _mm512_mulhrs_epi16(_mm512_loadu_si512(factors), wide);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm512_cvtepi16_epi8(scaled));
    return _mm512_dpwssd_epi32(sums, scaled, _mm512_set1_epi16(1));
  }
  static Ints ZeroInts() { return _mm512_setzero_si512(); }
  static Quads SetQuads(int32_t four) { return _mm512_set1_epi32(four); }
  static Quads BitQuads(const uint16_t* words, int64_t /*first*/) {
    int64_t four;
    __builtin_memcpy(&four, words, sizeof(four));
    // Byte i of a lane below 8 is the low byte of word i, of others the high.
    const __m512i low_bytes = _mm512_set1_epi32(0x06040200);
    const __m512i bytes = _mm512_mask_add_epi8(low_bytes, 0xffffffff00000000,
                                               low_bytes, _mm512_set1_epi8(1));
    const __m512i bits = _mm512_broadcast_i32x8(_mm256_setr_epi32(
        0x01010101, 0x02020202, 0x04040404, 0x08080808, 0x10101010, 0x20202020,
        0x40404040, static_cast<int>(0x80808080)));
    return _mm512_and_si512(_mm512_shuffle_epi8(_mm512_set1_epi64(four), bytes),
                            bits);
  }
  static Vec PerBit(int64_t /*first*/) {
    return _mm512_broadcast_f32x8(_mm256_setr_ps(
        0x1p0f, 0x1p-1f, 0x1p-2f, 0x1p-3f, 0x1p-4f, 0x1p-5f, 0x1p-6f, 0x1p-7f));
  }
  static Ints AddDots(Ints sums, Quads a, Quads b) {
    return _mm512_dpbusd_epi32(sums, a, b);
  }
  static Vec ToFloats(Ints x) { return _mm512_cvtepi32_ps(x); }
};

}  // namespace
}  // namespace sentencekv
