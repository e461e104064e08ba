#include "cache/frame_copies.h"

#include <algorithm>
#include <utility>

#include "cache/stopwatch.h"
#include "kernels/status_macros.h"

namespace sentencekv {

FrameCopies::FrameCopies(PagePool& pool, Buffer frames, int64_t num_frames)
    : pool_(pool),
      device_(pool.backend()),
      frames_(std::move(frames)),
      frame_events_(static_cast<size_t>(num_frames)),
      page_events_(static_cast<size_t>(pool.layout().num_pages)) {}

FrameCopies::~FrameCopies() { (void)device_.Synchronize(); }

void FrameCopies::Fetch(int64_t layer, const FramePage& what, int64_t offset,
                        int64_t size_bytes) {
  fetches_.push_back({frame_data(what.frame) + offset,
                      page_data(layer, what.page) + offset,
                      static_cast<size_t>(size_bytes)});
  fetched_.push_back(what);
  // The copy that saves what the frame held may not be done, nor that of the
  // page to the pool.
  fetch_after_host_ = std::max({fetch_after_host_, of_frame(what.frame).saved,
                                of_page(what.page).written});
  bytes_to_device_ += size_bytes;
}

void FrameCopies::WillUse(int32_t frame) {
  compute_after_device_ =
      std::max(compute_after_device_, of_frame(frame).filled);
}

void FrameCopies::WillWrite(int32_t frame) {
  WillUse(frame);
  compute_after_host_ = std::max(compute_after_host_, of_frame(frame).saved);
}

void FrameCopies::WillRead(int32_t page) {
  compute_after_host_ = std::max(compute_after_host_, of_page(page).written);
}

absl::StatusOr<uint64_t> FrameCopies::CopyAfterCompute(
    DeviceStream stream, const DeviceEvent& other,
    std::span<const CopyRun> runs) {
  SKV_ASSIGN_OR_RETURN(const DeviceEvent computed,
                       device_.Record(DeviceStream::kCompute));
  SKV_RETURN_IF_ERROR(device_.Wait(stream, computed));
  SKV_RETURN_IF_ERROR(device_.Wait(stream, other));
  const absl::Status submitted = device_.Transfer(stream, runs);
  const absl::StatusOr<DeviceEvent> done =
      submitted.ok() ? device_.Record(stream) : submitted;
  if (!done.ok()) {
    // Some of it may be on its way, and there is no event to wait for.
    (void)device_.Synchronize();
    return done.status();
  }
  return done->number;
}

absl::Status FrameCopies::Submit() {
  if (fetches_.empty()) return absl::OkStatus();
  // Operations may still use what the frames held.
  SKV_ASSIGN_OR_RETURN(
      const uint64_t filled,
      CopyAfterCompute(DeviceStream::kToDevice,
                       {DeviceStream::kToHost, fetch_after_host_}, fetches_));
  for (const FramePage& fetched : fetched_) {
    of_frame(fetched.frame).filled = filled;
    of_page(fetched.page).read = filled;
  }
  compute_after_device_ = filled;
  // Only now: what an error above left undone is done, and waited for, with the
  // next copies.
  fetch_after_host_ = 0;
  fetches_.clear();
  fetched_.clear();
  return absl::OkStatus();
}

absl::Status FrameCopies::Ready() {
  const Stopwatch time(&seconds_stalled_);
  SKV_RETURN_IF_ERROR(Submit());
  SKV_RETURN_IF_ERROR(
      device_.Wait(DeviceStream::kCompute,
                   {DeviceStream::kToDevice, compute_after_device_}));
  SKV_RETURN_IF_ERROR(device_.Wait(
      DeviceStream::kCompute, {DeviceStream::kToHost, compute_after_host_}));
  compute_after_device_ = compute_after_host_ = 0;
  return absl::OkStatus();
}

absl::Status FrameCopies::Save(std::span<const WrittenPage> written) {
  const int64_t page_bytes = pool_.layout().page_bytes();
  std::vector<CopyRun> runs;
  // The page's last owner may not have read it yet.
  uint64_t read = 0;
  for (const auto& [layer, at] : written) {
    read = std::max(read, of_page(at.page).read);
    runs.push_back({page_data(layer, at.page), frame_data(at.frame),
                    static_cast<size_t>(page_bytes)});
  }
  bytes_to_host_ += std::ssize(runs) * page_bytes;
  SKV_ASSIGN_OR_RETURN(const uint64_t saved,
                       CopyAfterCompute(DeviceStream::kToHost,
                                        {DeviceStream::kToDevice, read}, runs));
  for (const WrittenPage& one : written) {
    of_frame(one.at.frame).saved = saved;
    of_page(one.at.page).written = saved;
  }
  return absl::OkStatus();
}

absl::Status FrameCopies::CopyPage(int32_t source, int32_t destination) {
  std::vector<CopyRun> runs;
  for (int64_t layer = 0; layer < pool_.layout().num_layers; ++layer) {
    runs.push_back({page_data(layer, destination), page_data(layer, source),
                    static_cast<size_t>(pool_.layout().page_bytes())});
  }
  // The page's last owner may not have read it yet; nor may operations of its,
  // of a step that has failed.
  SKV_ASSIGN_OR_RETURN(
      of_page(destination).written,
      CopyAfterCompute(DeviceStream::kToHost,
                       {DeviceStream::kToDevice, of_page(destination).read},
                       runs));
  return absl::OkStatus();
}

}  // namespace sentencekv
