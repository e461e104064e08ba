// Sequences with random K and V in the pages of a pool, as the CPU backend
// keeps them, and their attention computed naively in double precision.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "kernels/kv_layout.h"
#include "kernels/op_params.h"

namespace sentencekv {

// One sequence's share of a step.
struct StepRows {
  int64_t position = 0;  // KV length before the step
  int64_t num_rows = 0;
};

struct AttentionShape {
  int64_t num_heads = 1;     // H
  int64_t num_kv_heads = 1;  // G
  int64_t head_dim = 64;     // D
  DType dtype = DType::kF16;
};

// A step over several sequences. Page tables are shuffled, and every slot of
// the pool that holds no token of a sequence is filled with NaN.
class PagedStep {
 public:
  // `magnitude` is the standard deviation of q, k and v.
  PagedStep(const AttentionShape& shape, const std::vector<StepRows>& rows,
            uint32_t seed, float magnitude = 1.0f);

  // Parameters of the whole step; `out` receives [T, H D].
  AttentionParams Params(std::vector<float>& out) const;
  // out = the naive result, [T, H D].
  std::vector<double> Expected() const;
  // Values of V are at most this.
  double max_value() const { return max_value_; }

  const AttentionShape& shape() const { return shape_; }
  int64_t num_rows() const { return num_rows_; }
  int64_t row_width() const {
    return (shape_.num_heads + 2 * shape_.num_kv_heads) * shape_.head_dim;
  }
  int64_t out_width() const { return shape_.num_heads * shape_.head_dim; }
  float scale() const { return scale_; }
  const std::vector<KvSequence>& sequences() const { return sequences_; }
  KvLayerView view() const;

  // Element d of a query head of a row.
  float Query(int64_t row, int64_t head, int64_t d) const {
    return qkv_[row * row_width() + head * shape_.head_dim + d];
  }
  // Element d of K at a position of a sequence, as the pool rounds it.
  float Key(size_t sequence, int64_t position, int64_t head, int64_t d) const {
    return keys_[sequence][Index(position, head, d)];
  }
  // Element d of V at a position of a sequence, as the pool rounds it.
  float Value(size_t sequence, int64_t position, int64_t head,
              int64_t d) const {
    return values_[sequence][Index(position, head, d)];
  }
  void SetValue(size_t sequence, int64_t position, int64_t head, int64_t d,
                float value);

 private:
  int64_t Index(int64_t position, int64_t head, int64_t d) const {
    return (position * shape_.num_kv_heads + head) * shape_.head_dim + d;
  }
  // Writes element d of K or V to its slot; returns it as rounded.
  float Store(size_t sequence, int64_t position, int64_t head, int64_t d,
              bool is_value, float value);
  void MakePageTables(std::mt19937& random);
  void AttendNaively(size_t sequence, int64_t row, int64_t head,
                     double* out) const;

  AttentionShape shape_;
  float scale_ = 0;
  int64_t num_rows_ = 0;
  double max_value_ = 0;
  KvLayout layout_;
  std::vector<float> qkv_;  // [T, (H + 2 G) D]
  mutable std::vector<std::byte> pool_;
  // [B][S, G, D], what the pool holds, as f32.
  std::vector<std::vector<float>> keys_;
  std::vector<std::vector<float>> values_;
  std::vector<std::vector<int32_t>> pages_;
  std::vector<KvSequence> sequences_;
};

}  // namespace sentencekv
