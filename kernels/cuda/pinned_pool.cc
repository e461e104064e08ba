#include "kernels/cuda/pinned_pool.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <thread>
#include <vector>

#include "fmt/format.h"
#include "kernels/cpu/aligned_memory.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/host_limits.h"
#include "kernels/cuda/numa_node.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// Memory of this size and more lies on pages of its own: locking a page that
// two blocks share fails.
constexpr size_t kHugePageBytes = size_t{2} << 20;
// What a thread should have the system put memory behind.
constexpr size_t kTouchedBytes = size_t{256} << 20;
constexpr size_t kMaxTouchThreads = 8;

// Whole huge pages. 0 when it is more than there can be.
size_t PinnedBytes(size_t size_bytes) {
  if (size_bytes > SIZE_MAX / 2) return 0;
  const size_t num_pages = (size_bytes + kHugePageBytes - 1) / kHugePageBytes;
  return std::max<size_t>(num_pages, 1) * kHugePageBytes;
}

// Has the system put memory behind all of it: locking would do that page by
// page, in one thread, ten times as slowly.
void Touch(std::byte* data, size_t size_bytes) {
  const size_t num_threads =
      std::clamp<size_t>(size_bytes / kTouchedBytes, 1, kMaxTouchThreads);
  const size_t share = size_bytes / num_threads;
  std::vector<std::thread> threads;
  for (size_t i = 1; i < num_threads; ++i) {
    threads.emplace_back(PopulateMemory, data + i * share, share);
  }
  PopulateMemory(data, share);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

absl::StatusOr<std::byte*> PinnedPool::Allocate(size_t size_bytes) {
  const size_t bytes = PinnedBytes(size_bytes);
  if (bytes > 0) {
    SKV_RETURN_IF_ERROR(CheckHostLimits(bytes, options_.root));
  }
  std::byte* data = bytes == 0 ? nullptr : AllocateAligned(bytes);
  if (data == nullptr) {
    return absl::ResourceExhaustedError(
        fmt::format("no host memory for a buffer of {} bytes", size_bytes));
  }
  PreferNumaNode(data, bytes, options_.numa_node);
  Touch(data, bytes);
  if (absl::Status status = Lock(data, bytes); !status.ok()) {
    FreeAligned(data, bytes);
    return status;
  }
  blocks_.emplace(data, bytes);
  return data;
}

void PinnedPool::Free(std::byte* data, size_t size_bytes) {
  const size_t bytes = PinnedBytes(size_bytes);
  Unlock(data, bytes);
  FreeAligned(data, bytes);
  blocks_.erase(data);
}

size_t PinnedPool::held_bytes() const {
  size_t bytes = 0;
  for (const auto& [data, size_bytes] : blocks_) bytes += size_bytes;
  return bytes;
}

size_t PinnedPool::BytesLeftInPiece(const void* address) const {
  const auto* at = static_cast<const std::byte*>(address);
  const auto above = blocks_.upper_bound(at);
  if (above == blocks_.begin()) return SIZE_MAX;
  const auto block = std::prev(above);
  const auto offset = static_cast<size_t>(at - block->first);
  return offset < block->second
             ? options_.piece_bytes - offset % options_.piece_bytes
             : SIZE_MAX;
}

absl::Status PinnedPool::Lock(std::byte* data, size_t size_bytes) const {
  for (size_t begin = 0; begin < size_bytes; begin += options_.piece_bytes) {
    const size_t piece = std::min(options_.piece_bytes, size_bytes - begin);
    const absl::Status status = CudaStatus(
        cudaHostRegister(data + begin, piece, cudaHostRegisterPortable),
        "cudaHostRegister");
    if (status.ok()) continue;
    Unlock(data, begin);
    return absl::ResourceExhaustedError(fmt::format(
        "cannot lock {} bytes of host memory for the device: {}{}", size_bytes,
        std::string(status.message()), LockLimitText(size_bytes)));
  }
  return absl::OkStatus();
}

void PinnedPool::Unlock(std::byte* data, size_t size_bytes) const {
  for (size_t begin = 0; begin < size_bytes; begin += options_.piece_bytes) {
    // Fails only after an error that the caller has seen.
    (void)CudaStatus(cudaHostUnregister(data + begin), "cudaHostUnregister");
  }
}

}  // namespace sentencekv
