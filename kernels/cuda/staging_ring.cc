#include "kernels/cuda/staging_ring.h"

#include <algorithm>
#include <utility>

#include "kernels/cuda/cuda_status.h"
#include "kernels/status_macros.h"

namespace sentencekv {

absl::StatusOr<std::unique_ptr<StagingRing>> StagingRing::Create(
    CudaStreams& streams, DeviceArena& arena, PinnedPool& pinned,
    size_t segment_bytes) {
  std::unique_ptr<StagingRing> ring(new StagingRing(streams, arena, pinned));
  SKV_RETURN_IF_ERROR(ring->Allocate(segment_bytes));
  return ring;
}

absl::Status StagingRing::Allocate(size_t segment_bytes) {
  const size_t size_bytes = kNumSegments * segment_bytes;
  SKV_ASSIGN_OR_RETURN(PinnedMemory host,
                       PinnedMemory::Allocate(pinned_, size_bytes));
  SKV_ASSIGN_OR_RETURN(
      DeviceMemory device,
      DeviceMemory::Allocate(arena_, size_bytes, MemoryUse::kStaging));
  // The old ones may still be read.
  SKV_RETURN_IF_ERROR(streams_.AwaitAll());
  host_ = std::move(host);
  device_ = std::move(device);
  segment_bytes_ = segment_bytes;
  current_ = used_bytes_ = 0;
  done_ = {};
  return absl::OkStatus();
}

absl::Status StagingRing::NextSegment() {
  // Every operation that was given room here has been issued.
  SKV_ASSIGN_OR_RETURN(done_[current_],
                       streams_.Record(DeviceStream::kCompute));
  const size_t next = (current_ + 1) % kNumSegments;
  SKV_RETURN_IF_ERROR(streams_.Await(done_[next]));
  current_ = next;
  used_bytes_ = 0;
  return absl::OkStatus();
}

absl::StatusOr<StagedArrays> StagingRing::Reserve(size_t size_bytes) {
  if (size_bytes > segment_bytes_) {
    SKV_RETURN_IF_ERROR(Allocate(std::max(size_bytes, 2 * segment_bytes_)));
  }
  if (used_bytes_ + size_bytes > segment_bytes_) {
    SKV_RETURN_IF_ERROR(NextSegment());
  }
  const size_t begin = current_ * segment_bytes_ + used_bytes_;
  // Arrays begin at multiples of it, after a copy of any size too.
  used_bytes_ += StagedArrays::AlignedBytes(size_bytes);
  return StagedArrays(host_.data() + begin, device_.data() + begin, size_bytes);
}

absl::Status StagingRing::Send(const StagedArrays& arrays) {
  SKV_RETURN_IF_CUDA_ERROR(
      cudaMemcpyAsync(arrays.device(), arrays.host(), arrays.size_bytes(),
                      cudaMemcpyHostToDevice, streams_.compute()));
  return absl::OkStatus();
}

absl::Status StagingRing::CopyFromHost(std::byte* device, const std::byte* host,
                                       size_t size_bytes) {
  for (size_t done = 0; done < size_bytes;) {
    const size_t piece = std::min(segment_bytes_, size_bytes - done);
    SKV_ASSIGN_OR_RETURN(const StagedArrays room, Reserve(piece));
    std::memcpy(room.host(), host + done, piece);
    SKV_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(device + done, room.host(), piece,
                                             cudaMemcpyHostToDevice,
                                             streams_.compute()));
    done += piece;
  }
  return absl::OkStatus();
}

absl::Status StagingRing::CopyToHost(std::byte* host, const std::byte* device,
                                     size_t size_bytes) {
  for (size_t done = 0; done < size_bytes;) {
    const size_t piece = std::min(segment_bytes_, size_bytes - done);
    SKV_ASSIGN_OR_RETURN(const StagedArrays room, Reserve(piece));
    SKV_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(room.host(), device + done, piece,
                                             cudaMemcpyDeviceToHost,
                                             streams_.compute()));
    SKV_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(streams_.compute()));
    std::memcpy(host + done, room.host(), piece);
    done += piece;
  }
  return absl::OkStatus();
}

}  // namespace sentencekv
