// The places a product reads a block of keys or values from: their pages, or
// panels of floats, and how panels are filled from pages. Included only through
// attention_kernel.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/simd.h"
#include "kernels/kv_layout.h"

namespace sentencekv {
namespace {

// Queries that go through the products together.
constexpr int64_t kGroupQueries = 6;
constexpr int64_t kBlockPages = kBlockTokens / kPageTokens;

// The pages of one block, for one KV head: K at the address, V after it. Those
// of the next block, to prefetch, are some readable page where there is none.
struct BlockPages {
  const std::byte* page[kBlockPages];
  const std::byte* next[kBlockPages];
  int64_t num_pages;
  int64_t value_offset;  // bytes from K to V
};

// Pages of the block at `begin`, of keys below `end`.
inline BlockPages PagesOf(const AttentionTile& tile, int64_t begin,
                          int64_t end) {
  BlockPages block;
  const int64_t first = begin / kPageTokens;
  const int64_t last = (end - 1) / kPageTokens;
  block.num_pages =
      last - first + 1 < kBlockPages ? last - first + 1 : kBlockPages;
  block.value_offset =
      kPageTokens * tile.head_dim * (tile.dtype == DType::kF32 ? 4 : 2);
  for (int64_t i = 0; i < kBlockPages; ++i) {
    const int64_t here = first + i < last ? first + i : last;
    const int64_t there =
        first + kBlockPages + i < last ? first + kBlockPages + i : last;
    block.page[i] = tile.kv + tile.pages[here] * tile.page_bytes;
    block.next[i] = tile.kv + tile.pages[there] * tile.page_bytes;
  }
  return block;
}

// A source gives, for one index `k` of the sum, vectors j = 0, 1, ... of the
// products' right-hand side. Row<kVectors>(k, j) is where vectors j..j +
// kVectors - 1 are; it also prefetches for later.

// Floats, [k][stride].
struct Panel {
  const float* data;
  int64_t stride;

  struct RowView {
    const float* row;
    Simd::Vec operator[](int64_t j) const {
      return Simd::Load(row + j * Simd::kLanes);
    }
  };
  template <int kVectors>
  [[gnu::always_inline]] RowView Row(int64_t k, int64_t first) const {
    return {data + k * stride + first * Simd::kLanes};
  }
};

inline void Prefetch(const std::byte* address) {
  __builtin_prefetch(address, 0, 3);
}

// Prefetches what falls to the group of queries at `q` of `queries` of the next
// block's bytes: each group a little, so that no thread waits for its loads.
inline void PrefetchSlice(const BlockPages& pages, int64_t page_bytes,
                          int64_t q, int64_t queries) {
  const int64_t lines = page_bytes / 64;
  const int64_t begin = lines * q / queries;
  int64_t end = lines * (q + kGroupQueries) / queries;
  if (end > lines) end = lines;
  for (int64_t line = begin; line < end; ++line) {
    for (int64_t i = 0; i < kBlockPages; ++i) {
      Prefetch(pages.next[i] + line * 64);
    }
  }
}

// K in its pages: k is a dimension, vector j covers tokens j * kLanes...
template <DType kType>
struct KeyPages {
  const BlockPages& pages;

  static constexpr int64_t kVectorBytes = Simd::kLanes * SizeOf(kType);
  static constexpr int64_t kStripBytes = kPageTokens * SizeOf(kType);
  static constexpr int64_t kPageVectors = kPageTokens / Simd::kLanes;

  struct RowView {
    const std::byte* const* page;
    int64_t offset;
    int64_t first;
    Simd::Vec operator[](int64_t j) const {
      const int64_t vector = first + j;
      return LoadAs<kType>(page[vector / kPageVectors] + offset +
                           vector % kPageVectors * kVectorBytes);
    }
  };
  template <int kVectors>
  [[gnu::always_inline]] RowView Row(int64_t k, int64_t first) const {
    const int64_t offset = k * kStripBytes;
    if (kVectors >= kPageVectors && offset % 64 == 0) {
      SKV_UNROLL
      for (int64_t i = 0; i < kVectors / kPageVectors; ++i) {
        Prefetch(pages.next[first / kPageVectors + i] + offset);
      }
    }
    return {pages.page, offset, first};
  }
};

// V in its pages: k is a token, vector j covers dimensions j * kLanes...
template <DType kType>
struct ValuePages {
  const BlockPages& pages;
  int64_t head_dim;

  static constexpr int64_t kVectorBytes = Simd::kLanes * SizeOf(kType);

  struct RowView {
    const std::byte* row;
    Simd::Vec operator[](int64_t j) const {
      return LoadAs<kType>(row + j * kVectorBytes);
    }
  };
  template <int kVectors>
  [[gnu::always_inline]] RowView Row(int64_t k, int64_t first) const {
    const int64_t offset = pages.value_offset +
                           k % kPageTokens * head_dim * SizeOf(kType) +
                           first * kVectorBytes;
    const int64_t page = k / kPageTokens;
    SKV_UNROLL
    for (int64_t i = 0; i < kVectors * kVectorBytes; i += 64) {
      Prefetch(pages.next[page] + offset + i);
    }
    return {pages.page[page] + offset};
  }
};

// [D][16] of each page into [D][kBlockTokens].
template <DType kType>
void FillKeyPanel(const BlockPages& pages, int64_t head_dim, float* panel) {
  constexpr int64_t kStripBytes = kPageTokens * SizeOf(kType);
  for (int64_t i = 0; i < pages.num_pages; ++i) {
    const std::byte* strip = pages.page[i];
    float* to = panel + i * kPageTokens;
    for (int64_t d = 0; d < head_dim; ++d) {
      SKV_UNROLL
      for (int64_t lane = 0; lane < kPageTokens; lane += Simd::kLanes) {
        Simd::Store(to + lane, LoadAs<kType>(strip + lane * SizeOf(kType)));
      }
      strip += kStripBytes;
      to += kBlockTokens;
    }
  }
}

// One element of a type; for the ends of rows that are no whole vectors.
template <DType kType>
inline float LoadOne(const std::byte* from) {
  std::byte lanes[4 * Simd::kLanes] = {};
  for (int64_t i = 0; i < SizeOf(kType); ++i) lanes[i] = from[i];
  return Simd::First(LoadAs<kType>(lanes));
}

// [16][D] of each page into [kBlockTokens][padded_dim]. Every token of a page
// is converted; those beyond the sequence are never read.
template <DType kType>
void FillValuePanel(const BlockPages& pages, int64_t head_dim,
                    int64_t padded_dim, float* panel) {
  const int64_t whole = head_dim / Simd::kLanes * Simd::kLanes;
  for (int64_t i = 0; i < pages.num_pages; ++i) {
    const std::byte* row = pages.page[i] + pages.value_offset;
    for (int64_t token = 0; token < kPageTokens; ++token) {
      int64_t d = 0;
      for (; d < whole; d += Simd::kLanes) {
        Simd::Store(panel + d, LoadAs<kType>(row + d * SizeOf(kType)));
      }
      for (; d < head_dim; ++d) {
        panel[d] = LoadOne<kType>(row + d * SizeOf(kType));
      }
      for (; d < padded_dim; ++d) panel[d] = 0;
      row += head_dim * SizeOf(kType);
      panel += padded_dim;
    }
  }
}

}  // namespace
}  // namespace sentencekv
