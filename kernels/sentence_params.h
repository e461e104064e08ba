// Parameters of the operations on sentences of Backend; the rules of
// kernels/op_params.h hold here too.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kv_layout.h"
#include "kernels/sentence_block.h"

namespace sentencekv {

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
  float prior_weight = 1;
  float* scores = nullptr;  // [num_entries], host memory
  // For kSign: the signs, and the ends of the sentences, the first of which
  // begins at position 0; host memory, [num_entries].
  const std::byte* signs = nullptr;
  const int32_t* ends = nullptr;
  // A first look takes every key for its sentence's mean. Signs are looked at
  // in what scores best by it, in whole bins (kernels/score_bins.h) until they
  // hold num_refined tokens; other sentences keep what the first look gave. 0:
  // signs are looked at everywhere.
  int64_t num_refined = 0;
  // The query that scores is (1 - blend) q + blend x the mean of the q since
  // num_summed was 0. query_sum, [num_heads, D], is their sum: overwritten when
  // num_summed is 0, else added to. Null: the query is q.
  float* query_sum = nullptr;
  int64_t num_summed = 0;
  float blend = 0;
};

// scores[e] = prior_weight * prior[e] + sum over the query heads of softmax
// over the entries of score(q, e) * scale, where score is q . mean, the bound
// of the box, or, for kSign, the logarithm of the sum over the tokens of exp(q
// . key * scale) / scale.
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

}  // namespace sentencekv
