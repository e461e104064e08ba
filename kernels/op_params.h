// Parameters of the operations of Backend: plain structs of device pointers
// and int64 sizes. Nothing here owns memory; every pointer is borrowed for the
// duration of the operation.
//
// Dimension letters, used everywhere in the project:
//   T tokens in the step    B sequences in the step   S tokens in a sequence
//   (KV length) H query heads           G KV heads                D head size
//   M model width           F feed-forward width      V vocabulary
//   L layers                P tokens per KV page      R rotary dimensions of a
//   head
// Tensors are dense and row-major unless said otherwise; activations are f32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/kv_layout.h"
#include "kernels/sentence_params.h"
#include "kernels/weight_matrix.h"

namespace sentencekv {

// out[t] = table[tokens[t]].
struct EmbedParams {
  const WeightMatrix* table = nullptr;  // [V, M], any format
  const int32_t* tokens = nullptr;      // [T], host memory, each in 0..V-1
  float* out = nullptr;                 // [T, M]
  int64_t num_tokens = 0;               // T
};

// out = x / sqrt(mean(x^2) + epsilon) * weight, row by row. out may equal x.
struct RmsNormParams {
  const float* x = nullptr;       // [T, M]
  const float* weight = nullptr;  // [M]
  float* out = nullptr;           // [T, M]
  int64_t num_rows = 0;           // T
  int64_t width = 0;              // M
  float epsilon = 0;
};

// out = x * weight^T (+ bias) (+ out, when accumulate). Every output element
// is summed in the same order whatever num_rows is: results are bitwise
// independent of the batch. Quantised weights quantise x to 8 bits per 32
// columns on the way.
struct MatMulParams {
  const WeightMatrix* weight = nullptr;  // [N, K]
  const float* x = nullptr;              // [T, K]
  const float* bias = nullptr;           // [N] or null
  float* out = nullptr;                  // [T, N]
  int64_t num_rows = 0;                  // T
  bool accumulate = false;
};

// out[t, i] = silu(gate_up[t, i]) * gate_up[t, F + i].
struct SwiGluParams {
  const float* gate_up = nullptr;  // [T, 2 F]
  float* out = nullptr;            // [T, F]
  int64_t num_rows = 0;            // T
  int64_t width = 0;               // F
};

// out[i] = x[rows[i]].
struct GatherRowsParams {
  const float* x = nullptr;       // [T, M]
  const int32_t* rows = nullptr;  // [num_rows], host memory
  float* out = nullptr;           // [num_rows, M]
  int64_t num_rows = 0;
  int64_t width = 0;  // M
};

// Which dimensions of a head turn together: kInterleaved (2i, 2i + 1), as
// GGUF's converter orders the rows of q and k; kHalves (i, i + R/2), as
// Hugging Face checkpoints do.
enum class RopeLayout : uint8_t { kInterleaved, kHalves };

// Angles of one step: cos_sin[t, i] = {cos, sin}(positions[t] *
// inverse_frequency[i]) * magnitude. RoFormer,
// https://arxiv.org/abs/2104.09864.
struct RopeTableParams {
  const int32_t* positions = nullptr;        // [T], host memory
  const float* inverse_frequency = nullptr;  // [R/2]
  float* cos_sin = nullptr;                  // [T, R/2, 2]
  int64_t num_tokens = 0;                    // T
  int64_t half_dims = 0;                     // R/2
  float magnitude = 1.0f;                    // attention factor of yarn, else 1
};

// One sequence's share of a step: a run of rows at consecutive positions.
struct KvSequence {
  int64_t row_begin = 0;           // first row in the step's [T, ...] tensors
  int64_t num_rows = 0;            // at least 1
  int64_t position = 0;            // position of row_begin; the KV length after
                                   // this step is position + num_rows
  const int32_t* pages = nullptr;  // [ceil((position + num_rows) / P)], host
                                   // memory: position p lies in pages[p / P]
};

// Turns q and k by their positions, leaves q in `qkv`, and writes k and v to
// their slots in the pages of `kv`, rounding to its dtype. Of a sequence's
// pages only those of its rows are used.
struct RopeStoreKvParams {
  float* qkv = nullptr;  // [T, (H + 2 G) D]: q heads, k heads, v heads
  const float* cos_sin = nullptr;         // [T, R/2, 2]
  KvLayerView kv;                         // one layer's pages
  const KvSequence* sequences = nullptr;  // [B], host memory
  int64_t num_sequences = 0;              // B
  int64_t num_heads = 0;                  // H
  int64_t rotary_dims = 0;                // R, at most D
  RopeLayout layout = RopeLayout::kInterleaved;
};

// Exact causal attention over pages: query row at position p attends to
// positions 0..p of its sequence. Query head h reads KV head h / (H / G).
// out = softmax(q k^T * scale) v, softmax in f32. Bitwise independent of how
// rows are spread over steps and sequences.
struct AttentionParams {
  const float* qkv = nullptr;  // [T, (H + 2 G) D], q turned
  float* out = nullptr;        // [T, H D]
  KvLayerView kv;
  const KvSequence* sequences = nullptr;  // [B], host memory
  int64_t num_sequences = 0;              // B
  int64_t num_heads = 0;                  // H
  float scale = 0;                        // 1 / sqrt(D)
};

// The tokens that one row attends to in one KV head.
struct SelectedTokens {
  int64_t row = 0;                  // in the step's tensors
  int64_t kv_head = 0;              // 0..G-1
  const int32_t* pages = nullptr;   // [num_pages], host memory
  const uint16_t* masks = nullptr;  // [num_pages]: bit t is token t of the
                                    // page; no mask is 0
  int64_t num_pages = 0;            // at least 1
};

// Exact attention of single rows over chosen tokens: for every query head of
// selection.kv_head, out = softmax(q k^T * scale) v over the selected tokens,
// softmax in f32. Tokens count in the order given. Rows and heads that no
// selection names are not written. Each (row, KV head) at most once.
struct SelectedAttentionParams {
  const float* qkv = nullptr;  // [T, (H + 2 G) D], q turned
  float* out = nullptr;        // [T, H D]
  KvLayerView kv;
  const SelectedTokens* selections = nullptr;  // host memory
  int64_t num_selections = 0;
  int64_t num_heads = 0;  // H
  float scale = 0;
};

// Copies whole pages inside one layer-major pool, in every layer: copy on
// write.
struct CopyPagesParams {
  KvLayout layout;
  void* pool = nullptr;                  // as KvLayout describes
  const int32_t* source = nullptr;       // [num_pages], host memory
  const int32_t* destination = nullptr;  // [num_pages], host memory
  int64_t num_pages = 0;
};

// Rows of bytes inside device memory: destination[i] = source[i]. Nothing
// overlaps.
struct CopyRowsParams {
  const std::byte* source = nullptr;
  int64_t source_stride = 0;  // bytes
  std::byte* destination = nullptr;
  int64_t destination_stride = 0;
  int64_t row_bytes = 0;  // no more than either stride
  int64_t num_rows = 0;
};

}  // namespace sentencekv
