// Device memory for K and V, in frames: room for one page of one layer, or for
// a run of K and V of each KV head.
//
// A frame is free, holds a page, or is lent out for runs of single heads. Pages
// make room for others in the order of their last use, except those of the use
// that is being prepared; lent frames stay until they are given back. A reserve
// is never lent, so that one layer of the longest sequence always fits.
//
// Engine thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <vector>

namespace sentencekv {

class FramePool {
 public:
  // REQUIRES: 0 < num_reserved <= num_frames. `on_evicted` is told of each
  // frame that holds a page no more because another needs it.
  FramePool(int64_t num_frames, int64_t num_reserved,
            std::function<void(int32_t frame)> on_evicted);

  // What follows belongs to another use.
  void BeginUse() { ++use_; }
  uint64_t use() const { return use_; }
  // A frame that will hold a page, used now. None: all are in use or lent.
  std::optional<int32_t> TakeForPage();
  // A frame that holds a page is used now.
  void Touch(int32_t frame);
  // How many frames one use may take for pages.
  int64_t num_not_lent() const { return num_frames() - num_lent_; }
  // How many frames can be lent, when a use has just begun.
  int64_t num_lendable() const {
    return num_frames() - num_reserved_ - num_lent_;
  }
  // A frame for runs of single heads. None: only the reserve is left.
  std::optional<int32_t> Lend();
  // A frame that holds a page, or is lent, becomes free.
  void GiveBack(int32_t frame);

  int64_t num_frames() const { return static_cast<int64_t>(frames_.size()); }
  int64_t num_used() const {
    return num_frames() - static_cast<int64_t>(free_.size());
  }

 private:
  struct Frame {
    bool is_lent = false;
    uint64_t last_use = 0;
    std::list<int32_t>::iterator place;  // in pages_
  };

  // A free frame, or one whose page makes room.
  std::optional<int32_t> Take();

  const int64_t num_reserved_;
  const std::function<void(int32_t)> on_evicted_;
  std::vector<Frame> frames_;
  std::vector<int32_t> free_;
  std::list<int32_t> pages_;  // frames that hold one, the longest unused first
  int64_t num_lent_ = 0;
  uint64_t use_ = 1;
};

}  // namespace sentencekv
