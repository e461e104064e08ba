// Entries of sentences from their keys, in the Simd of the including file's
// level. Included only by sentences_LEVEL.cc.
#pragma once

#include "kernels/cpu/sentence_kernels.h"
#include "kernels/cpu/simd.h"
#include "kernels/kv_layout.h"
#include "kernels/sentence_block.h"

namespace sentencekv {
namespace {

constexpr int64_t kStripVectors = kPageTokens / Simd::kLanes;

inline Simd::Vec Absolute(Simd::Vec x) {
  return Simd::Max(x, Simd::Sub(Simd::Zero(), x));
}

// One page's part of a sentence: its keys, and which of the page's tokens.
template <DType kType>
struct KeyStrip {
  const std::byte* keys;
  int64_t page;   // of the sequence
  uint32_t bits;  // bit t: token t of the page

  Simd::Vec Load(int64_t d, int64_t j) const {
    return LoadAs<kType>(keys +
                         (d * kPageTokens + j * Simd::kLanes) * SizeOf(kType));
  }
  // What the sentence has of vector j; other lanes are `otherwise`, whatever
  // the memory there holds.
  Simd::Vec Keep(int64_t d, int64_t j, Simd::Vec otherwise) const {
    return Simd::Pick(bits >> (j * Simd::kLanes), Load(d, j), otherwise);
  }
};

// Calls visit(KeyStrip) for each page of the sentence.
template <DType kType, typename Visit>
inline void ForStrips(const KvLayerView& kv, const SentenceIndexItem& item,
                      int64_t kv_head, Visit&& visit) {
  for (int64_t page = item.begin / kPageTokens; page * kPageTokens < item.end;
       ++page) {
    visit(KeyStrip<kType>{kv.head(item.pages[page], kv_head), page,
                          PageTokenBits(page, item.begin, item.end)});
  }
}

// Writes values[d] * factor as slot `slot` of a block's vector; its elements
// lie `stride` apart from `first` on.
inline void WriteEntryVector(const float* values, float factor,
                             int64_t head_dim, int64_t slot, int64_t first,
                             int64_t stride, std::byte* vector) {
  float highest = 0;
  for (int64_t d = 0; d < head_dim; ++d) {
    const float magnitude = __builtin_fabsf(values[d]);
    if (magnitude > highest) highest = magnitude;
  }
  const float inverse = highest > 0 ? 127.0f / highest : 0.0f;
  for (int64_t d = 0; d < head_dim; ++d) {
    const auto value =
        static_cast<int8_t>(__builtin_lrintf(values[d] * inverse));
    vector[first + d * stride] = static_cast<std::byte>(value);
  }
  const float unit = highest / 127.0f * factor;
  __builtin_memcpy(vector + head_dim * kBlockEntries +
                       slot * static_cast<int64_t>(sizeof(unit)),
                   &unit, sizeof(unit));
}

template <DType kType>
void SumKeys(const KvLayerView& kv, const SentenceIndexItem& item,
             int64_t kv_head, float* sums) {
  const int64_t head_dim = kv.layout.head_dim;
  for (int64_t d = 0; d < head_dim; ++d) sums[d] = 0;
  ForStrips<kType>(kv, item, kv_head, [&](const KeyStrip<kType>& strip) {
    for (int64_t d = 0; d < head_dim; ++d) {
      Simd::Vec sum = Simd::Zero();
      for (int64_t j = 0; j < kStripVectors; ++j) {
        sum = Simd::Add(sum, strip.Keep(d, j, Simd::Zero()));
      }
      sums[d] += Simd::Sum(sum);
    }
  });
}

// Middle and half width of the box around the keys.
template <DType kType>
void BoundKeys(const KvLayerView& kv, const SentenceIndexItem& item,
               int64_t kv_head, float* middle, float* half) {
  const int64_t head_dim = kv.layout.head_dim;
  const Simd::Vec lowest = Simd::Set(-__builtin_inff());
  float* const highest = middle;      // so far
  float* const negated_least = half;  // so far
  for (int64_t d = 0; d < head_dim; ++d) {
    highest[d] = negated_least[d] = -__builtin_inff();
  }
  ForStrips<kType>(kv, item, kv_head, [&](const KeyStrip<kType>& strip) {
    for (int64_t d = 0; d < head_dim; ++d) {
      Simd::Vec most = lowest;
      Simd::Vec negated = lowest;
      for (int64_t j = 0; j < kStripVectors; ++j) {
        most = Simd::Max(strip.Keep(d, j, lowest), most);
        negated =
            Simd::Max(Simd::Sub(Simd::Zero(),
                                strip.Keep(d, j, Simd::Set(__builtin_inff()))),
                      negated);
      }
      const float high = Simd::MaxLane(most);
      const float low = Simd::MaxLane(negated);
      if (high > highest[d]) highest[d] = high;
      if (low > negated_least[d]) negated_least[d] = low;
    }
  });
  for (int64_t d = 0; d < head_dim; ++d) {
    const float high = highest[d];
    const float low = -negated_least[d];
    middle[d] = 0.5f * (high + low);
    half[d] = 0.5f * (high - low);
  }
}

// Sets the signs of the keys and adds up their distances from the means.
template <DType kType>
void SignKeys(const KvLayerView& kv, const SentenceIndexItem& item,
              int64_t kv_head, const float* means, float* distances,
              std::byte* signs) {
  const int64_t head_dim = kv.layout.head_dim;
  for (int64_t d = 0; d < head_dim; ++d) distances[d] = 0;
  ForStrips<kType>(kv, item, kv_head, [&](const KeyStrip<kType>& strip) {
    auto* const out = reinterpret_cast<uint16_t*>(
        signs + strip.page * SignStripBytes(head_dim));
    for (int64_t d = 0; d < head_dim; ++d) {
      const Simd::Vec mean = Simd::Set(means[d]);
      Simd::Vec sum = Simd::Zero();
      uint32_t above = 0;
      for (int64_t j = 0; j < kStripVectors; ++j) {
        const Simd::Vec off = Simd::Sub(strip.Keep(d, j, mean), mean);
        sum = Simd::Add(sum, Absolute(off));
        above |= Simd::PositiveBits(off) << (j * Simd::kLanes);
      }
      distances[d] += Simd::Sum(sum);
      // Another thread may set the bits of the neighbouring sentence.
      __atomic_fetch_or(&out[d], static_cast<uint16_t>(above),
                        __ATOMIC_RELAXED);
    }
  });
}

template <DType kType>
void IndexSentenceAs(const KvLayerView& kv, const SentenceIndexItem& item,
                     int64_t kv_head, float* scratch) {
  const int64_t head_dim = kv.layout.head_dim;
  std::byte* const block =
      item.blocks + kv_head * item.head_stride +
      item.entry / kBlockEntries * SentenceBlockBytes(item.kind, head_dim);
  std::byte* const second = block + SentenceVectorBytes(head_dim);
  const int64_t slot = item.entry % kBlockEntries;
  const float inverse_count = 1.0f / static_cast<float>(item.end - item.begin);
  float* const a = scratch;
  float* const b = scratch + head_dim;
  if (item.kind == SentenceIndexKind::kMinMax) {
    BoundKeys<kType>(kv, item, kv_head, a, b);
    WriteEntryVector(a, 1.0f, head_dim, slot, slot, kBlockEntries, block);
    WriteEntryVector(b, 1.0f, head_dim, slot, slot, kBlockEntries, second);
    return;
  }
  SumKeys<kType>(kv, item, kv_head, a);
  WriteEntryVector(a, inverse_count, head_dim, slot, slot, kBlockEntries,
                   block);
  if (item.kind == SentenceIndexKind::kMean) return;
  for (int64_t d = 0; d < head_dim; ++d) a[d] *= inverse_count;
  SignKeys<kType>(kv, item, kv_head, a, b,
                  item.signs + kv_head * item.sign_stride);
  WriteEntryVector(b, inverse_count, head_dim, slot, slot * head_dim, 1,
                   second);
}

void IndexSentence(const KvLayerView& kv, const SentenceIndexItem& item,
                   int64_t kv_head, float* scratch) {
  switch (kv.layout.dtype) {
    case DType::kF16:
      return IndexSentenceAs<DType::kF16>(kv, item, kv_head, scratch);
    case DType::kBF16:
      return IndexSentenceAs<DType::kBF16>(kv, item, kv_head, scratch);
    case DType::kF32:
      return IndexSentenceAs<DType::kF32>(kv, item, kv_head, scratch);
  }
}

}  // namespace
}  // namespace sentencekv
