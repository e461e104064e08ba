// Where a token's K and V lie. The pool is one block of memory:
//
//   [L layers][num_pages][G KV heads][K then V][P tokens x D], dtype
//
// so that one (page, KV head) is one contiguous run of K and V. Inside a run
// the backend chooses the order: the CPU keeps K as [D][P] (a score is a
// vertical sum over D) and V as [P][D].
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace sentencekv {

// Tokens per page (P).
inline constexpr int64_t kPageTokens = 16;

// Which tokens of a sequence's page lie at positions begin..end-1: bit t for
// token t. Static, as files of the dispatch levels use it.
[[maybe_unused]] static inline uint32_t PageTokenBits(int64_t page,
                                                      int64_t begin,
                                                      int64_t end) {
  const int64_t first = begin - page * kPageTokens;
  const int64_t last = end - page * kPageTokens;
  const uint32_t all = (1u << kPageTokens) - 1;
  const uint32_t below_last = last < kPageTokens ? (1u << last) - 1 : all;
  const uint32_t below_first = first > 0 ? (1u << first) - 1 : 0;
  return below_last & ~below_first;
}

// Shape of a pool.
struct KvLayout {
  int64_t num_layers = 0;  // L
  int64_t num_pages = 0;
  int64_t num_kv_heads = 0;  // G
  int64_t head_dim = 0;      // D
  DType dtype = DType::kF16;

  // Bytes of one (page, KV head): K then V.
  int64_t head_bytes() const {
    return 2 * kPageTokens * head_dim * SizeOf(dtype);
  }
  // Bytes of one page in one layer.
  int64_t page_bytes() const { return num_kv_heads * head_bytes(); }
  int64_t layer_bytes() const { return num_pages * page_bytes(); }
  int64_t total_bytes() const { return num_layers * layer_bytes(); }
};

// One layer of a pool, or what a device has of it; a borrowed view that never
// outlives a step.
struct KvLayerView {
  std::byte* base = nullptr;  // [num_pages][G][K then V][P x D]
  KvLayout layout;
  // Pages of one KV head: page numbers name runs of K and V, [num_pages][K then
  // V][P x D], whatever the KV head.
  bool is_per_head = false;

  int64_t page_stride() const {
    return is_per_head ? layout.head_bytes() : layout.page_bytes();
  }
  std::byte* head(int64_t page, int64_t kv_head) const {
    return base + page * page_stride() +
           (is_per_head ? 0 : kv_head * layout.head_bytes());
  }
};

}  // namespace sentencekv
