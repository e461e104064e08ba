#include "cache/segmenter.h"

#include <algorithm>
#include <utility>

#include "kernels/check.h"

namespace sentencekv {

Segmenter::Segmenter(std::shared_ptr<const SentenceMarks> marks,
                     SegmenterOptions options)
    : marks_(std::move(marks)), options_(options) {
  SKV_CHECK(marks_ != nullptr);
  SKV_CHECK(options_.min_tokens >= 1);
  SKV_CHECK(options_.max_tokens >= options_.min_tokens);
}

void Segmenter::Append(std::span<const int32_t> tokens) {
  for (int32_t token : tokens) Take(token);
}

void Segmenter::Take(int32_t token) {
  const TokenReading reading = scanner_.Read(marks_->Of(token));
  if (num_tokens_ > open_begin()) ranks_.push_back(reading.rank_before);
  if (reading.end.has_value()) {
    CloseIfLongEnough(*reading.end, reading.is_paragraph);
  }
  ++num_tokens_;
  SplitIfTooLong();
  if (reading.ends_inside) CloseIfLongEnough(num_tokens_, reading.is_paragraph);
}

void Segmenter::CloseIfLongEnough(int64_t end, bool is_paragraph) {
  const int64_t size = end - open_begin();
  if (size >= options_.min_tokens || (is_paragraph && size > 0)) Close(end);
}

// Prefers the best place in the second half, the last of equals; where that is
// not between words, any better one before.
void Segmenter::SplitIfTooLong() {
  if (num_tokens_ - open_begin() <= options_.max_tokens) return;
  int64_t best = options_.max_tokens;
  for (int64_t size = best - 1; size >= options_.min_tokens; --size) {
    const bool is_early = size <= options_.max_tokens / 2;
    if (is_early && ranks_[best - 1] >= SplitRank::kSpace) break;
    if (ranks_[size - 1] > ranks_[best - 1]) best = size;
  }
  Close(open_begin() + best);
}

void Segmenter::Close(int64_t end) {
  const int64_t num_closed = end - open_begin();
  const int64_t num_ranks = static_cast<int64_t>(ranks_.size());
  ranks_.erase(ranks_.begin(),
               ranks_.begin() + std::min(num_closed, num_ranks));
  ends_.push_back(static_cast<int32_t>(end));
}

}  // namespace sentencekv
