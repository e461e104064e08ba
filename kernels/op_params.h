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

#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/kv_layout.h"
#include "kernels/sentence_block.h"
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
// their slots in the pages of `kv`, rounding to its dtype.
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

// A sentence of a sequence, and where its entry goes; kernels/sentence_block.h
// has the layout.
struct SentenceIndexItem {
  SentenceIndexKind kind = SentenceIndexKind::kMean;
  const int32_t* pages = nullptr;  // of the sequence, host memory
  int64_t begin = 0;               // positions begin..end-1
  int64_t end = 0;
  int64_t entry = 0;            // number among the sequence's entries
  std::byte* blocks = nullptr;  // of KV head 0
  int64_t head_stride = 0;      // bytes from one KV head's blocks to the next's
  // Of KV head 0, for kSign: bits that are 0 so far.
  std::byte* signs = nullptr;
  int64_t sign_stride = 0;  // bytes from one KV head's signs to the next's
};

// Writes the entries of sentences, for every KV head of one layer, from their
// keys in the pool.
struct IndexSentencesParams {
  KvLayerView kv;
  const SentenceIndexItem* items = nullptr;  // host memory
  int64_t num_items = 0;
};

// One row's query heads of one KV head, and the sentences to be scored.
struct SentenceScoreItem {
  SentenceIndexKind kind = SentenceIndexKind::kMean;
  const float* q = nullptr;  // [num_heads, D], turned
  const std::byte* blocks = nullptr;
  int64_t num_entries = 0;       // at least 1
  const float* prior = nullptr;  // [num_entries], host memory; may be null
  float* scores = nullptr;       // [num_entries], host memory
  // For kSign: the signs, and the ends of the sentences, the first of which
  // begins at position 0; host memory, [num_entries].
  const std::byte* signs = nullptr;
  const int32_t* ends = nullptr;
  // The query that scores is (1 - blend) q + blend x the mean of the q since
  // num_summed was 0. query_sum, [num_heads, D], is their sum: overwritten when
  // num_summed is 0, else added to. Null: the query is q.
  float* query_sum = nullptr;
  int64_t num_summed = 0;
  float blend = 0;
};

// scores[e] = prior[e] + sum over the query heads of softmax over the entries
// of score(q, e) * scale, where score is q . mean, the bound of the box, or,
// for kSign, the logarithm of the sum over the tokens of exp(q . key * scale) /
// scale.
struct ScoreSentencesParams {
  const SentenceScoreItem* items = nullptr;  // host memory
  int64_t num_items = 0;
  int64_t num_heads = 0;  // query heads of a KV head, H / G
  int64_t head_dim = 0;   // D
  float scale = 0;
};

// How much attention the keys of a sequence get from some of its queries.
struct AttentionMassParams {
  // Query i is at position first_position + i and sees keys 0..that position.
  const float* queries = nullptr;  // [num_queries, H, D], turned; host memory
  int64_t num_queries = 0;
  int64_t first_position = 0;
  KvLayerView kv;
  const int32_t* pages = nullptr;  // of the sequence, host memory
  int64_t num_heads = 0;           // H
  float scale = 0;
  // Sum over the queries of softmax(q k^T * scale), for each query head and
  // key 0..first_position + num_queries - 1.
  float* out = nullptr;  // [H, first_position + num_queries], host memory
};

// Keys as the pool holds them: out[i] = K at positions[i].
struct ReadKeysParams {
  KvLayerView kv;
  int64_t kv_head = 0;                 // 0..G-1
  const int32_t* pages = nullptr;      // of the sequence, host memory
  const int32_t* positions = nullptr;  // [num_positions], host memory
  int64_t num_positions = 0;
  float* out = nullptr;  // [num_positions, D], host memory
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

}  // namespace sentencekv
