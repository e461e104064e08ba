#include "kernels/cuda/device_arena.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "fmt/format.h"
#include "kernels/check.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/rounding.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

constexpr size_t kAlignment = 256;
// Left to the driver, which takes memory of the device itself while we run: for
// the code of kernels when they are first launched (cuBLASLt's are tens of MiB
// each), and for registers that do not fit, for as many threads as a device can
// have at once (a KiB each is 264 MiB on an H100). An estimate with room to
// spare; small devices leave an eighth.
constexpr size_t kLeftToDriverBytes = size_t{1} << 30;

absl::StatusOr<size_t> ChooseSize(size_t wanted_bytes) {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  SKV_RETURN_IF_CUDA_ERROR(cudaMemGetInfo(&free_bytes, &total_bytes));
  if (wanted_bytes > free_bytes) {
    return absl::ResourceExhaustedError(fmt::format(
        "{} bytes of device memory are to be used; {} of {} are free",
        wanted_bytes, free_bytes, total_bytes));
  }
  if (wanted_bytes == 0) {
    wanted_bytes = free_bytes - std::min(kLeftToDriverBytes, free_bytes / 8);
  }
  return wanted_bytes / kAlignment * kAlignment;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceArena>> DeviceArena::Create(
    CudaStreams& streams, const DeviceArenaOptions& options) {
  SKV_ASSIGN_OR_RETURN(const size_t size_bytes, ChooseSize(options.size_bytes));
  void* memory = nullptr;
  SKV_RETURN_IF_CUDA_ERROR(cudaMalloc(&memory, size_bytes));
  return std::unique_ptr<DeviceArena>(
      new DeviceArena(streams, static_cast<std::byte*>(memory), size_bytes,
                      options.mark_block));
}

DeviceArena::~DeviceArena() {
  SKV_CHECK(taken_.empty());
  // Fails only after an error that the caller has seen.
  (void)CudaStatus(cudaFree(memory_), "cudaFree");
}

absl::StatusOr<std::byte*> DeviceArena::Allocate(size_t size_bytes,
                                                 MemoryUse use) {
  if (size_bytes > size_bytes_) return Exhausted(size_bytes);
  const size_t rounded = RoundUp(std::max<size_t>(size_bytes, 1), kAlignment);
  SKV_RETURN_IF_ERROR(RecordReleases());
  SKV_RETURN_IF_ERROR(ReclaimPassed());
  std::optional<size_t> offset = free_.Take(rounded);
  while (!offset.has_value() && !releasing_.empty()) {
    SKV_RETURN_IF_ERROR(WaitAndReclaim());
    offset = free_.Take(rounded);
  }
  if (!offset.has_value()) return Exhausted(size_bytes);
  const Block block = {*offset, rounded};
  if (absl::Status status = Mark(block, /*is_taken=*/true); !status.ok()) {
    free_.Give(block.offset, block.size_bytes);
    return status;
  }
  taken_.emplace(*offset, TakenBlock{block, use});
  return memory_ + *offset;
}

void DeviceArena::Release(std::byte* data, Users users) {
  const auto taken = taken_.find(static_cast<size_t>(data - memory_));
  SKV_CHECK(taken != taken_.end());
  const Block block = taken->second.block;
  taken_.erase(taken);
  if (users == Users::kCompute) {
    Free(block);
  } else {
    released_.push_back(block);
  }
}

// The events come later than the blocks were released, which does no harm: they
// stand behind more than they need to. In return Release cannot fail, and any
// number of blocks needs two events.
absl::Status DeviceArena::RecordReleases() {
  if (released_.empty()) return absl::OkStatus();
  Releasing releasing;
  for (const DeviceStream stream :
       {DeviceStream::kToDevice, DeviceStream::kToHost}) {
    SKV_ASSIGN_OR_RETURN(const DeviceEvent event, streams_.Record(stream));
    releasing.copies.push_back(event);
  }
  releasing.blocks = std::exchange(released_, {});
  releasing_.push_back(std::move(releasing));
  return absl::OkStatus();
}

absl::Status DeviceArena::ReclaimPassed() {
  while (!releasing_.empty()) {
    SKV_ASSIGN_OR_RETURN(const bool have_passed,
                         HavePassed(releasing_.front().copies));
    if (!have_passed) break;
    FreeFirstReleasing();
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> DeviceArena::HavePassed(
    const std::vector<DeviceEvent>& events) {
  for (const DeviceEvent& event : events) {
    SKV_ASSIGN_OR_RETURN(const bool has_passed, streams_.HasPassed(event));
    if (!has_passed) return false;
  }
  return true;
}

absl::Status DeviceArena::WaitAndReclaim() {
  for (const DeviceEvent& event : releasing_.front().copies) {
    SKV_RETURN_IF_ERROR(streams_.Wait(DeviceStream::kCompute, event));
  }
  ++num_waits_;
  FreeFirstReleasing();
  return absl::OkStatus();
}

void DeviceArena::FreeFirstReleasing() {
  for (const Block& block : releasing_.front().blocks) Free(block);
  releasing_.pop_front();
}

void DeviceArena::Free(const Block& block) {
  free_.Give(block.offset, block.size_bytes);
  // Whoever is not told knows less, and nothing wrong.
  (void)Mark(block, /*is_taken=*/false);
}

absl::Status DeviceArena::Mark(const Block& block, bool is_taken) {
  if (mark_block_ == nullptr) return absl::OkStatus();
  return CudaStatus(mark_block_(memory_ + block.offset, block.size_bytes,
                                is_taken, streams_.compute()),
                    "mark_block");
}

MemoryBudget DeviceArena::budget() const {
  MemoryBudget budget;
  budget.total_bytes = size_bytes_;
  for (const auto& [offset, taken] : taken_) {
    budget.held_bytes[static_cast<size_t>(taken.use)] += taken.block.size_bytes;
  }
  budget.free_bytes = free_.free_bytes();
  budget.largest_free_bytes = free_.largest_bytes();
  budget.num_waits = num_waits_;
  for (const Block& block : released_) {
    budget.releasing_bytes += block.size_bytes;
  }
  for (const Releasing& releasing : releasing_) {
    for (const Block& block : releasing.blocks) {
      budget.releasing_bytes += block.size_bytes;
    }
  }
  return budget;
}

absl::Status DeviceArena::Exhausted(size_t size_bytes) const {
  const MemoryBudget now = budget();
  return absl::ResourceExhaustedError(fmt::format(
      "no device memory for {} bytes; {} are free, the largest block has {}: "
      "{}",
      size_bytes, now.free_bytes, now.largest_free_bytes,
      MemoryBudgetText(now)));
}

}  // namespace sentencekv
