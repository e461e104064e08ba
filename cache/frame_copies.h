// Copies between the pages of a pool and frames of device memory, each after
// what it must wait for: docs/residency.md has the table.
//
// Engine thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/page_pool.h"
#include "kernels/backend.h"
#include "kernels/buffer.h"

namespace sentencekv {

// A frame and the page of the pool whose K and V it holds.
struct FramePage {
  int32_t frame = 0;
  int32_t page = 0;
};

// One whose K and V of a layer operations have written.
struct WrittenPage {
  int64_t layer = 0;
  FramePage at;
};

class FrameCopies {
 public:
  // `frames` has room for num_frames pages of one layer. `pool` must outlive
  // the copies.
  FrameCopies(PagePool& pool, Buffer frames, int64_t num_frames);
  // Waits for copies that are on their way.
  ~FrameCopies();
  FrameCopies(const FrameCopies&) = delete;
  FrameCopies& operator=(const FrameCopies&) = delete;

  std::byte* frames() const { return frames_.as<std::byte>(); }

  // Has `size_bytes` at an offset of the page, in one layer, copied to the same
  // offset of the frame, by Submit.
  void Fetch(int64_t layer, const FramePage& what, int64_t offset,
             int64_t size_bytes);
  // Operations issued after the next Ready use the frame, or write it.
  void WillUse(int32_t frame);
  void WillWrite(int32_t frame);
  // And read the page itself, in the pool.
  void WillRead(int32_t page);
  // Submits what Fetch was asked for, and waits for nothing. After an error it
  // is submitted with the next.
  absl::Status Submit();
  // Submit; operations issued from now on find their frames filled.
  absl::Status Ready();
  // Nothing is ready before its next use.
  void ForgetUses() { compute_after_device_ = 0; }

  // Operations issued so far have written the frames: the pages get them.
  absl::Status Save(std::span<const WrittenPage> written);
  // PagePool::Copy, of pages that may be on their way.
  absl::Status CopyPage(int32_t source, int32_t destination);

  int64_t bytes_to_device() const { return bytes_to_device_; }
  int64_t bytes_to_host() const { return bytes_to_host_; }
  // Spent in Ready.
  double seconds_stalled() const { return seconds_stalled_; }

 private:
  // Events, by their numbers, that order the uses of a frame's memory.
  struct FrameEvents {
    uint64_t filled = 0;  // of kToDevice: it has what was copied to it
    uint64_t saved = 0;   // of kToHost: the pool has what was written
  };
  // And of a page's memory in the pool.
  struct PageEvents {
    uint64_t read = 0;     // of kToDevice
    uint64_t written = 0;  // of kToHost
  };

  // Copies that begin when operations issued so far are done and `other` has
  // passed; the number of the event that they are done.
  absl::StatusOr<uint64_t> CopyAfterCompute(DeviceStream stream,
                                            const DeviceEvent& other,
                                            std::span<const CopyRun> runs);
  std::byte* frame_data(int32_t frame) const {
    return frames() + frame * pool_.layout().page_bytes();
  }
  std::byte* page_data(int64_t layer, int32_t page) const {
    return pool_.layer(layer).head(page, 0);
  }
  FrameEvents& of_frame(int32_t frame) {
    return frame_events_[static_cast<size_t>(frame)];
  }
  PageEvents& of_page(int32_t page) {
    return page_events_[static_cast<size_t>(page)];
  }

  PagePool& pool_;
  Backend& device_;
  const Buffer frames_;  // [num_frames][G][K then V][P x D]
  std::vector<FrameEvents> frame_events_;
  std::vector<PageEvents> page_events_;

  // Until Submit: copies, what they fill and read, and what they wait for.
  std::vector<CopyRun> fetches_;
  std::vector<FramePage> fetched_;
  uint64_t fetch_after_host_ = 0;
  // Until Ready: what operations wait for.
  uint64_t compute_after_device_ = 0;
  uint64_t compute_after_host_ = 0;

  int64_t bytes_to_device_ = 0;
  int64_t bytes_to_host_ = 0;
  double seconds_stalled_ = 0;
};

}  // namespace sentencekv
