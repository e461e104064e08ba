#include "cache/frame_pool.h"

#include <utility>

#include "kernels/check.h"

namespace sentencekv {

FramePool::FramePool(int64_t num_frames, int64_t num_reserved,
                     std::function<void(int32_t)> on_evicted)
    : num_reserved_(num_reserved),
      on_evicted_(std::move(on_evicted)),
      frames_(static_cast<size_t>(num_frames)) {
  SKV_CHECK(num_reserved > 0 && num_reserved <= num_frames);
  // Frame 0 ends on top of the stack.
  for (int64_t frame = num_frames - 1; frame >= 0; --frame) {
    free_.push_back(static_cast<int32_t>(frame));
  }
}

std::optional<int32_t> FramePool::Take() {
  if (!free_.empty()) {
    const int32_t frame = free_.back();
    free_.pop_back();
    return frame;
  }
  if (pages_.empty()) return std::nullopt;
  const int32_t oldest = pages_.front();
  if (frames_[static_cast<size_t>(oldest)].last_use == use_) {
    return std::nullopt;
  }
  pages_.pop_front();
  on_evicted_(oldest);
  return oldest;
}

std::optional<int32_t> FramePool::TakeForPage() {
  const std::optional<int32_t> frame = Take();
  if (!frame.has_value()) return std::nullopt;
  frames_[static_cast<size_t>(*frame)] = {
      .is_lent = false,
      .last_use = use_,
      .place = pages_.insert(pages_.end(), *frame)};
  return frame;
}

void FramePool::Touch(int32_t frame) {
  Frame& touched = frames_[static_cast<size_t>(frame)];
  SKV_CHECK(!touched.is_lent);
  if (touched.last_use == use_) return;
  touched.last_use = use_;
  pages_.splice(pages_.end(), pages_, touched.place);
}

std::optional<int32_t> FramePool::Lend() {
  if (num_lendable() <= 0) return std::nullopt;
  const std::optional<int32_t> frame = Take();
  if (!frame.has_value()) return std::nullopt;
  frames_[static_cast<size_t>(*frame)] = {.is_lent = true};
  ++num_lent_;
  return frame;
}

void FramePool::GiveBack(int32_t frame) {
  Frame& given = frames_[static_cast<size_t>(frame)];
  if (given.is_lent) {
    given.is_lent = false;
    --num_lent_;
  } else {
    pages_.erase(given.place);
  }
  free_.push_back(frame);
}

}  // namespace sentencekv
