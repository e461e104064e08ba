#include "kernels/cpu/attention_mass.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/kv_element.h"
#include "kernels/kv_layout.h"

namespace sentencekv {
namespace {

// Scores that a thread keeps: 4 MiB. A longer sequence converts its keys once
// for every few queries.
constexpr int64_t kScoreFloats = int64_t{1} << 20;

// The query heads of one operation, one at a time.
class HeadMass {
 public:
  HeadMass(const AttentionMassParams& params, int64_t head)
      : params_(params),
        head_(head),
        dim_(params.kv.layout.head_dim),
        num_keys_(params.first_position + params.num_queries),
        num_pages_((num_keys_ + kPageTokens - 1) / kPageTokens),
        block_(std::clamp<int64_t>(kScoreFloats / num_keys_, 1,
                                   params.num_queries)),
        scores_(block_ * num_pages_ * kPageTokens),
        keys_(dim_ * kPageTokens) {}

  void Run() {
    float* const out = params_.out + head_ * num_keys_;
    std::fill(out, out + num_keys_, 0.0f);
    for (int64_t begin = 0; begin < params_.num_queries; begin += block_) {
      const int64_t count = std::min(block_, params_.num_queries - begin);
      Score(begin, count);
      for (int64_t i = 0; i < count; ++i) {
        AddSoftmax(Row(i), params_.first_position + begin + i + 1, out);
      }
    }
  }

 private:
  float* Row(int64_t i) {
    return scores_.data() + i * num_pages_ * kPageTokens;
  }

  // Scores of `count` queries with every key, later ones too.
  void Score(int64_t begin, int64_t count) {
    const int64_t group = params_.num_heads / params_.kv.layout.num_kv_heads;
    for (int64_t page = 0; page < num_pages_; ++page) {
      const std::byte* from =
          params_.kv.head(params_.pages[page], head_ / group);
      for (int64_t i = 0; i < dim_ * kPageTokens; ++i) {
        keys_[i] = KvElement(from, params_.kv.layout.dtype, i);
      }
      for (int64_t i = 0; i < count; ++i) {
        const float* q =
            params_.queries + ((begin + i) * params_.num_heads + head_) * dim_;
        ScorePage(q, Row(i) + page * kPageTokens);
      }
    }
  }

  // A vertical sum over D for the 16 keys in keys_.
  void ScorePage(const float* q, float* scores) const {
    float sums[kPageTokens] = {};
    const float* keys = keys_.data();
    for (int64_t d = 0; d < dim_; ++d) {
      for (int64_t t = 0; t < kPageTokens; ++t) {
        sums[t] += q[d] * keys[d * kPageTokens + t];
      }
    }
    for (int64_t t = 0; t < kPageTokens; ++t) {
      scores[t] = sums[t] * params_.scale;
    }
  }

  // out[p] += softmax(scores)[p] over the first num_visible keys.
  static void AddSoftmax(float* scores, int64_t num_visible, float* out) {
    const float maximum = *std::max_element(scores, scores + num_visible);
    double sum = 0;
    for (int64_t p = 0; p < num_visible; ++p) {
      scores[p] = std::exp(scores[p] - maximum);
      sum += scores[p];
    }
    const auto factor = static_cast<float>(1 / sum);
    for (int64_t p = 0; p < num_visible; ++p) out[p] += scores[p] * factor;
  }

  const AttentionMassParams& params_;
  const int64_t head_;
  const int64_t dim_;
  const int64_t num_keys_;
  const int64_t num_pages_;
  const int64_t block_;        // queries scored together
  std::vector<float> scores_;  // [block, pages x 16]
  std::vector<float> keys_;    // [D][16], one page
};

}  // namespace

void ComputeAttentionMass(WorkerPool& pool, const AttentionMassParams& params) {
  pool.ParallelFor(params.num_heads,
                   [&](int64_t head) { HeadMass(params, head).Run(); });
}

void ReadKeyRows(const ReadKeysParams& params) {
  const KvLayout& layout = params.kv.layout;
  for (int64_t i = 0; i < params.num_positions; ++i) {
    const int64_t position = params.positions[i];
    const std::byte* from =
        params.kv.head(params.pages[position / kPageTokens], params.kv_head);
    float* const out = params.out + i * layout.head_dim;
    for (int64_t d = 0; d < layout.head_dim; ++d) {
      out[d] = KvElement(from, layout.dtype,
                         d * kPageTokens + position % kPageTokens);
    }
  }
}

}  // namespace sentencekv
