#include "tests/support/paged_sequences.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "kernels/half.h"

namespace sentencekv {

PagedStep::PagedStep(const AttentionShape& shape,
                     const std::vector<StepRows>& rows, uint32_t seed,
                     float magnitude)
    : shape_(shape),
      scale_(1.0f / std::sqrt(static_cast<float>(shape.head_dim))) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, magnitude);
  for (const StepRows& share : rows) {
    KvSequence sequence;
    sequence.row_begin = num_rows_;
    sequence.num_rows = share.num_rows;
    sequence.position = share.position;
    sequences_.push_back(sequence);
    num_rows_ += share.num_rows;
  }
  MakePageTables(random);
  qkv_.resize(num_rows_ * row_width());
  for (float& q : qkv_) q = normal(random);
  for (size_t s = 0; s < sequences_.size(); ++s) {
    const int64_t kv_len = sequences_[s].position + sequences_[s].num_rows;
    const int64_t width = shape.num_kv_heads * shape.head_dim;
    keys_.emplace_back(kv_len * width);
    values_.emplace_back(kv_len * width);
    for (int64_t i = 0; i < kv_len * width; ++i) {
      const int64_t head = i / shape.head_dim % shape.num_kv_heads;
      const int64_t d = i % shape.head_dim;
      keys_[s][i] = Store(s, i / width, head, d, false, normal(random));
      SetValue(s, i / width, head, d, normal(random));
    }
  }
}

void PagedStep::MakePageTables(std::mt19937& random) {
  int64_t num_pages = 0;
  for (const KvSequence& sequence : sequences_) {
    const int64_t kv_len = sequence.position + sequence.num_rows;
    const int64_t count = (kv_len + kPageTokens - 1) / kPageTokens;
    pages_.emplace_back(count);
    num_pages += count;
  }
  layout_ = {.num_layers = 1,
             .num_pages = num_pages,
             .num_kv_heads = shape_.num_kv_heads,
             .head_dim = shape_.head_dim,
             .dtype = shape_.dtype};
  // All bits set is a NaN in every type.
  pool_.assign(layout_.total_bytes(), std::byte{0xff});
  std::vector<int32_t> order(num_pages);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  auto next = order.begin();
  for (size_t s = 0; s < sequences_.size(); ++s) {
    for (int32_t& page : pages_[s]) page = *next++;
    sequences_[s].pages = pages_[s].data();
  }
}

KvLayerView PagedStep::view() const { return {pool_.data(), layout_}; }

AttentionParams PagedStep::Params(std::vector<float>& out) const {
  out.assign(num_rows_ * out_width(), std::numeric_limits<float>::quiet_NaN());
  AttentionParams params;
  params.qkv = qkv_.data();
  params.out = out.data();
  params.kv = view();
  params.sequences = sequences_.data();
  params.num_sequences = static_cast<int64_t>(sequences_.size());
  params.num_heads = shape_.num_heads;
  params.scale = scale_;
  return params;
}

float PagedStep::Store(size_t sequence, int64_t position, int64_t head,
                       int64_t d, bool is_value, float value) {
  std::byte* run = view().head(pages_[sequence][position / kPageTokens], head);
  const int64_t token = position % kPageTokens;
  const int64_t index = is_value ? (kPageTokens + token) * shape_.head_dim + d
                                 : d * kPageTokens + token;
  std::byte* slot = run + index * SizeOf(shape_.dtype);
  if (shape_.dtype == DType::kF32) {
    std::memcpy(slot, &value, sizeof(value));
    return value;
  }
  const bool is_f16 = shape_.dtype == DType::kF16;
  const uint16_t half = is_f16 ? F32ToF16(value) : F32ToBf16(value);
  std::memcpy(slot, &half, sizeof(half));
  return is_f16 ? F16ToF32(half) : Bf16ToF32(half);
}

void PagedStep::SetValue(size_t sequence, int64_t position, int64_t head,
                         int64_t d, float value) {
  const float rounded = Store(sequence, position, head, d, true, value);
  values_[sequence][Index(position, head, d)] = rounded;
  max_value_ = std::max<double>(max_value_, std::fabs(rounded));
}

void PagedStep::AttendNaively(size_t sequence, int64_t row, int64_t head,
                              double* out) const {
  const KvSequence& share = sequences_[sequence];
  const int64_t dim = shape_.head_dim;
  const int64_t kv_head = head / (shape_.num_heads / shape_.num_kv_heads);
  const float* q =
      qkv_.data() + (share.row_begin + row) * row_width() + head * dim;
  const int64_t visible = share.position + row + 1;
  std::vector<double> weights(visible);
  for (int64_t p = 0; p < visible; ++p) {
    const float* key = &keys_[sequence][Index(p, kv_head, 0)];
    double score = 0;
    for (int64_t d = 0; d < dim; ++d) {
      score += static_cast<double>(q[d]) * key[d];
    }
    weights[p] = score * scale_;
  }
  const double maximum = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - maximum);
  std::fill(out, out + dim, 0.0);
  for (int64_t p = 0; p < visible; ++p) {
    const float* value = &values_[sequence][Index(p, kv_head, 0)];
    const double weight = weights[p] / sum;
    for (int64_t d = 0; d < dim; ++d) out[d] += weight * value[d];
  }
}

std::vector<double> PagedStep::Expected() const {
  std::vector<double> out(num_rows_ * out_width());
  for (size_t s = 0; s < sequences_.size(); ++s) {
    for (int64_t row = 0; row < sequences_[s].num_rows; ++row) {
      for (int64_t head = 0; head < shape_.num_heads; ++head) {
        AttendNaively(s, row, head,
                      out.data() +
                          (sequences_[s].row_begin + row) * out_width() +
                          head * shape_.head_dim);
      }
    }
  }
  return out;
}

}  // namespace sentencekv
