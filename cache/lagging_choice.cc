#include "cache/lagging_choice.h"

#include <cmath>
#include <utility>

#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

float Cosine(std::span<const float> a, std::span<const float> b) {
  float product = 0, a_squares = 0, b_squares = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    product += a[i] * b[i];
    a_squares += a[i] * a[i];
    b_squares += b[i] * b[i];
  }
  return product / std::sqrt(a_squares * b_squares);
}

}  // namespace

absl::Status LaggingChoice::SetQuery(Backend& backend, int64_t layer,
                                     const float* query) {
  queries_.resize(static_cast<size_t>(shape_.num_layers));
  heads_.resize(static_cast<size_t>(shape_.num_layers * shape_.num_kv_heads));
  std::vector<float>& last = queries_[static_cast<size_t>(layer)];
  std::vector<float> now(
      static_cast<size_t>(shape_.num_heads * shape_.head_dim));
  SKV_RETURN_IF_ERROR(
      backend.CopyToHost(now.data(), query, now.size() * sizeof(float)));
  const auto width = now.size() / static_cast<size_t>(shape_.num_kv_heads);
  for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
    const size_t begin = static_cast<size_t>(g) * width;
    // Not "< least": a query that is not a number has moved.
    heads_[HeadIndex(layer, g)].has_moved =
        last.empty() ||
        !(Cosine(std::span(now).subspan(begin, width),
                 std::span(last).subspan(begin, width)) >= kLeastLagCosine);
  }
  last = std::move(now);
  return absl::OkStatus();
}

std::span<const int32_t> LaggingChoice::Read(int64_t layer, int64_t kv_head,
                                             std::span<const int32_t> chosen,
                                             int64_t* num_repairs) {
  Head& head = heads_[HeadIndex(layer, kv_head)];
  if (head.has_moved && !head.next.empty()) ++*num_repairs;
  std::swap(head.now, head.next);
  head.next.assign(chosen.begin(), chosen.end());
  if (head.has_moved) head.now = head.next;
  return head.now;
}

}  // namespace sentencekv
