// Rotation and storing of one token, in the Simd of the including file's level.
// Included only by rope_LEVEL.cc.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/rope.h"
#include "kernels/cpu/simd.h"
#include "kernels/half.h"
#include "kernels/kv_layout.h"

namespace sentencekv {
namespace {

// Turns the pairs (x[2 i], x[2 i + 1]).
inline void TurnInterleaved(const float* x, const float* cos_sin,
                            int64_t rotary_dims, float* out) {
  constexpr int64_t kLanes = Simd::kLanes;
  int64_t i = 0;
  for (; i + kLanes <= rotary_dims; i += kLanes) {
    Simd::Store(out + i,
                Simd::RotatePairs(Simd::Load(x + i), Simd::Load(cos_sin + i)));
  }
  for (; i < rotary_dims; i += 2) {
    const float x0 = x[i];
    const float x1 = x[i + 1];
    out[i] = x0 * cos_sin[i] - x1 * cos_sin[i + 1];
    out[i + 1] = x0 * cos_sin[i + 1] + x1 * cos_sin[i];
  }
}

// Turns the pairs (x[i], x[i + R/2]).
inline void TurnHalves(const float* x, const float* cos_sin,
                       int64_t rotary_dims, float* out) {
  const int64_t half = rotary_dims / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float x0 = x[i];
    const float x1 = x[i + half];
    out[i] = x0 * cos_sin[2 * i] - x1 * cos_sin[2 * i + 1];
    out[i + half] = x0 * cos_sin[2 * i + 1] + x1 * cos_sin[2 * i];
  }
}

// Turns one head; out may equal x. Dimensions from R on are left as they are.
inline void TurnHead(const RopeToken& token, const float* x, float* out) {
  if (token.layout == RopeLayout::kInterleaved) {
    TurnInterleaved(x, token.cos_sin, token.rotary_dims, out);
  } else {
    TurnHalves(x, token.cos_sin, token.rotary_dims, out);
  }
  for (int64_t i = token.rotary_dims; i < token.head_dim; ++i) out[i] = x[i];
}

// Rounds `count` (a multiple of 8) floats to a type.
template <DType kType>
void Round(const float* x, int64_t count, std::byte* out) {
  constexpr int64_t kLanes = Simd::kLanes;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Simd::Vec v = Simd::Load(x + i);
    std::byte* to = out + i * SizeOf(kType);
    if constexpr (kType == DType::kF16) Simd::StoreF16(to, v);
    if constexpr (kType == DType::kBF16) Simd::StoreBf16(to, v);
    if constexpr (kType == DType::kF32) {
      Simd::Store(reinterpret_cast<float*>(to), v);
    }
  }
  for (; i < count; ++i) {
    std::byte* to = out + i * SizeOf(kType);
    if constexpr (kType == DType::kF32) {
      __builtin_memcpy(to, &x[i], sizeof(float));
    } else {
      const uint16_t half =
          kType == DType::kF16 ? F32ToF16(x[i]) : F32ToBf16(x[i]);
      __builtin_memcpy(to, &half, sizeof(half));
    }
  }
}

// Writes k, [D], to its column of a page's K, [D][16 tokens].
template <DType kType>
void StoreKey(const float* k, int64_t head_dim, std::byte* column) {
  constexpr int64_t kSize = SizeOf(kType);
  alignas(64) std::byte rounded[kMaxHeadDim * kSize];
  Round<kType>(k, head_dim, rounded);
  for (int64_t d = 0; d < head_dim; ++d) {
    __builtin_memcpy(column + d * kPageTokens * kSize, rounded + d * kSize,
                     kSize);
  }
}

template <DType kType>
void TurnAndStore(const RopeToken& token) {
  const int64_t dim = token.head_dim;
  float* head = token.row;
  for (int64_t h = 0; h < token.num_heads; ++h, head += dim) {
    TurnHead(token, head, head);
  }
  const float* k = head;
  const float* v = k + token.num_kv_heads * dim;
  for (int64_t g = 0; g < token.num_kv_heads; ++g) {
    alignas(64) float turned[kMaxHeadDim];
    TurnHead(token, k + g * dim, turned);
    std::byte* keys = token.page + g * token.head_bytes;
    StoreKey<kType>(turned, dim, keys + token.slot * SizeOf(kType));
    std::byte* values = keys + kPageTokens * dim * SizeOf(kType);
    Round<kType>(v + g * dim, dim, values + token.slot * dim * SizeOf(kType));
  }
}

void TurnAndStoreToken(const RopeToken& token) {
  switch (token.dtype) {
    case DType::kF32:
      return TurnAndStore<DType::kF32>(token);
    case DType::kF16:
      return TurnAndStore<DType::kF16>(token);
    case DType::kBF16:
      return TurnAndStore<DType::kBF16>(token);
  }
}

}  // namespace
}  // namespace sentencekv
