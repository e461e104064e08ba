// Simd with AVX2, FMA and F16C: 8 floats. See simd.h.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/exp2_fraction.h"

namespace sentencekv {
namespace {

struct Simd {
  using Vec = __m256;
  static constexpr int kLanes = 8;

  static Vec Zero() { return _mm256_setzero_ps(); }
  static Vec Set(float x) { return _mm256_set1_ps(x); }
  static Vec Load(const float* from) { return _mm256_loadu_ps(from); }
  static void Store(float* to, Vec x) { _mm256_storeu_ps(to, x); }

  static Vec LoadI8(const std::byte* from) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(
        _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
  }
  static Vec LoadF16(const std::byte* from) {
    return _mm256_cvtph_ps(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static Vec LoadBf16(const std::byte* from) {
    const __m128i halves =
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }
  static void StoreF16(std::byte* to, Vec x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }
  static void StoreBf16(std::byte* to, Vec x) {
    // As F32ToBf16: rounds by adding, and keeps NaN quiet.
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd =
        _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(
        bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const __m256i kept =
        _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    const __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(kept),
                                            _mm256_extracti128_si256(kept, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), packed);
  }

  static Vec Add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
  static Vec Sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
  static Vec Mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
  static Vec Div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
  static Vec Fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
  static Vec Max(Vec a, Vec b) { return _mm256_max_ps(a, b); }

  static float First(Vec x) { return _mm256_cvtss_f32(x); }
  static float Sum(Vec x) {
    __m128 z =
        _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    z = _mm_add_ps(z, _mm_movehl_ps(z, z));
    return _mm_cvtss_f32(_mm_add_ss(z, _mm_movehdup_ps(z)));
  }
  static float MaxLane(Vec x) {
    __m128 z =
        _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    z = _mm_max_ps(z, _mm_movehl_ps(z, z));
    return _mm_cvtss_f32(_mm_max_ss(z, _mm_movehdup_ps(z)));
  }

  static Vec Pick(uint32_t bits, Vec a, Vec b) {
    const __m256i lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i set =
        _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), lanes);
    return _mm256_blendv_ps(
        b, a, _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, lanes)));
  }
  static uint32_t PositiveBits(Vec x) {
    return static_cast<uint32_t>(
        _mm256_movemask_ps(_mm256_cmp_ps(x, Zero(), _CMP_GT_OQ)));
  }
  static Vec KeepFirst(Vec x, int64_t count) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i keep =
        _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lanes);
    return _mm256_blendv_ps(Set(-__builtin_inff()), x,
                            _mm256_castsi256_ps(keep));
  }
  static Vec RotatePairs(Vec x, Vec cos_sin) {
    const Vec crossed =
        Mul(_mm256_permute_ps(x, 0xb1), _mm256_movehdup_ps(cos_sin));
    return _mm256_fmaddsub_ps(x, _mm256_moveldup_ps(cos_sin), crossed);
  }

  static Vec Exp2NonPositive(Vec x) {
    const Vec lowest = Set(-126.0f);
    // Max gives x where x is NaN, and the comparison is true there.
    const Vec clamped = Max(lowest, x);
    const Vec whole =
        _mm256_round_ps(clamped, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const Vec power = Exp2Fraction<Simd>(Sub(clamped, whole));
    const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(whole), 23);
    const Vec scaled = _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(power), exponent));
    return _mm256_and_ps(scaled, _mm256_cmp_ps(x, lowest, _CMP_NLT_UQ));
  }
  // By halves, so that neither factor leaves the range of exponents.
  static Vec Exp2(Vec x) {
    const Vec half = Mul(x, Set(0.5f));
    const Vec root = Exp2NonPositive(_mm256_min_ps(Set(126.0f), half));
    return Mul(root, root);
  }

  using Ints = __m256i;
  using Quads = __m256i;
  static Ints ScaleBytes(Ints sums, const int16_t* factors,
                         const std::byte* from, std::byte* to) {
    const __m256i wide = _mm256_cvtepi8_epi16(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    const __m256i scaled = _mm256_mulhrs_epi16(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(factors)), wide);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm_packs_epi16(_mm256_castsi256_si128(scaled),
                                     _mm256_extracti128_si256(scaled, 1)));
    return _mm256_add_epi32(sums,
                            _mm256_madd_epi16(scaled, _mm256_set1_epi16(1)));
  }
  static Ints ZeroInts() { return _mm256_setzero_si256(); }
  static Quads SetQuads(int32_t four) { return _mm256_set1_epi32(four); }
  static Quads BitQuads(const uint16_t* words, int64_t first) {
    uint64_t four;
    __builtin_memcpy(&four, words, sizeof(four));
    // Byte i of each lane is the byte of word i that has the lanes' bits.
    const __m256i bytes = _mm256_shuffle_epi8(
        _mm256_set1_epi64x(static_cast<int64_t>(four >> first)),
        _mm256_set1_epi32(0x06040200));
    return _mm256_and_si256(
        bytes, _mm256_setr_epi32(0x01010101, 0x02020202, 0x04040404, 0x08080808,
                                 0x10101010, 0x20202020, 0x40404040,
                                 static_cast<int>(0x80808080)));
  }
  static Vec PerBit(int64_t /*first*/) {
    return _mm256_setr_ps(0x1p0f, 0x1p-1f, 0x1p-2f, 0x1p-3f, 0x1p-4f, 0x1p-5f,
                          0x1p-6f, 0x1p-7f);
  }
  static Ints AddDots(Ints sums, Quads a, Quads b) {
    // Two products, each at most 128 x 127, fit 16 bits.
    const __m256i pairs = _mm256_maddubs_epi16(a, b);
    return _mm256_add_epi32(sums,
                            _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static Vec ToFloats(Ints x) { return _mm256_cvtepi32_ps(x); }
};

}  // namespace
}  // namespace sentencekv
