#include "kernels/cpu/vector_ops.h"

#include <cstddef>
#include <cstring>

#include "kernels/cpu/row_tiles.h"
#include "kernels/kv_layout.h"

namespace sentencekv {
namespace {

// Floats that keep a thread busy for about 10 microseconds: more than waking
// it costs. The gate's exponential makes its elements some four times dearer.
constexpr int64_t kNormFloats = 64 * 1024;
constexpr int64_t kGateFloats = 16 * 1024;
// Bytes to copy in about the same time.
constexpr int64_t kCopyBytes = 128 * 1024;

}  // namespace

void RunRmsNorm(WorkerPool& pool, const RmsNormParams& params,
                const VectorOpsKernels& kernels) {
  ForRowTiles(pool, params.num_rows, kNormFloats / params.width,
              [&](int64_t begin, int64_t end) {
                kernels.rms_norm_rows(params, begin, end);
              });
}

void RunSwiGlu(WorkerPool& pool, const SwiGluParams& params,
               const VectorOpsKernels& kernels) {
  ForRowTiles(pool, params.num_rows, kGateFloats / params.width,
              [&](int64_t begin, int64_t end) {
                kernels.swiglu_rows(params, begin, end);
              });
}

void RunGatherRows(WorkerPool& pool, const GatherRowsParams& params) {
  const int64_t row_bytes = params.width * static_cast<int64_t>(sizeof(float));
  ForRowTiles(pool, params.num_rows, kCopyBytes / row_bytes,
              [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i) {
                  std::memcpy(params.out + i * params.width,
                              params.x + params.rows[i] * params.width,
                              static_cast<size_t>(row_bytes));
                }
              });
}

void RunCopyPages(WorkerPool& pool, const CopyPagesParams& params) {
  const KvLayout& layout = params.layout;
  const int64_t page_bytes = layout.page_bytes();
  auto* base = static_cast<std::byte*>(params.pool);
  // Layer by layer, so that a later copy may read what an earlier one wrote.
  const auto copy_layers = [&](int64_t begin, int64_t end) {
    for (int64_t layer = begin; layer < end; ++layer) {
      std::byte* pages = base + layer * layout.layer_bytes();
      for (int64_t i = 0; i < params.num_pages; ++i) {
        if (params.source[i] == params.destination[i]) continue;
        std::memcpy(pages + params.destination[i] * page_bytes,
                    pages + params.source[i] * page_bytes,
                    static_cast<size_t>(page_bytes));
      }
    }
  };
  ForRowTiles(pool, layout.num_layers,
              kCopyBytes / (page_bytes * params.num_pages), copy_layers);
}

}  // namespace sentencekv
