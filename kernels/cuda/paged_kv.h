// One layer's K and V in device memory, as kernels see them: a KvLayerView with
// its strides computed. A (page, KV head) is one run, K [P][D] and then V
// [P][D]: lanes share a token's dimensions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/kv_layout.h"

namespace sentencekv {

struct PagedKv {
  std::byte* base = nullptr;  // the run of page 0 and KV head 0
  int64_t page_stride = 0;    // bytes
  int64_t head_stride = 0;    // bytes; 0 where pages are of one KV head
  int64_t head_dim = 0;       // D, a multiple of 8
  int64_t num_kv_heads = 0;   // G
  DType dtype = DType::kF16;
  bool operator==(const PagedKv&) const = default;
};

inline PagedKv MakePagedKv(const KvLayerView& view) {
  return {.base = view.base,
          .page_stride = view.page_stride(),
          .head_stride = view.is_per_head ? 0 : view.layout.head_bytes(),
          .head_dim = view.layout.head_dim,
          .num_kv_heads = view.layout.num_kv_heads,
          .dtype = view.layout.dtype};
}

}  // namespace sentencekv
