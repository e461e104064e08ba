#include "kernels/cuda/cuda_memory.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "fmt/format.h"
#include "kernels/cpu/aligned_memory.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// Memory of this size and more lies on pages of its own: page-locking a page
// that two blocks share fails.
constexpr size_t kHugePageBytes = size_t{2} << 20;
// Drivers refuse to lock much more at once.
constexpr size_t kLockedBytes = size_t{64} << 30;
// What a thread should have the system put memory behind.
constexpr size_t kTouchedBytes = size_t{256} << 20;
constexpr size_t kMaxTouchThreads = 8;

size_t PinnedBytes(size_t size_bytes) {
  return std::max(size_bytes, kHugePageBytes);
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

// Locks all of it, piece by piece, or nothing.
absl::Status Lock(std::byte* data, size_t size_bytes) {
  for (size_t begin = 0; begin < size_bytes; begin += kLockedBytes) {
    const absl::Status status =
        CudaStatus(cudaHostRegister(data + begin,
                                    std::min(kLockedBytes, size_bytes - begin),
                                    cudaHostRegisterPortable),
                   "cudaHostRegister");
    if (status.ok()) continue;
    for (size_t locked = 0; locked < begin; locked += kLockedBytes) {
      (void)cudaHostUnregister(data + locked);
    }
    return absl::ResourceExhaustedError(
        fmt::format("cannot lock {} bytes of host memory for the device: {}",
                    size_bytes, std::string(status.message())));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DeviceMemory> DeviceMemory::Allocate(size_t size_bytes) {
  void* data = nullptr;
  const absl::Status status = CudaStatus(
      cudaMalloc(&data, std::max<size_t>(size_bytes, 1)), "cudaMalloc");
  if (absl::IsResourceExhausted(status)) {
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    (void)cudaMemGetInfo(&free_bytes, &total_bytes);
    return absl::ResourceExhaustedError(fmt::format(
        "no device memory for {} bytes; {} of {} are free: {}", size_bytes,
        free_bytes, total_bytes, std::string(status.message())));
  }
  SKV_RETURN_IF_ERROR(status);
  DeviceMemory memory;
  memory.data_ = static_cast<std::byte*>(data);
  memory.size_bytes_ = size_bytes;
  return memory;
}

DeviceMemory::~DeviceMemory() { FreeDevice(data_); }

void FreeDevice(void* data) {
  // Fails only after an error that the caller has seen.
  if (data != nullptr) (void)CudaStatus(cudaFree(data), "cudaFree");
}

absl::StatusOr<std::byte*> AllocatePinned(size_t size_bytes) {
  const size_t bytes = PinnedBytes(size_bytes);
  std::byte* data = AllocateAligned(bytes);
  if (data == nullptr) {
    return absl::ResourceExhaustedError(
        fmt::format("no host memory for a buffer of {} bytes", size_bytes));
  }
  Touch(data, bytes);
  if (absl::Status status = Lock(data, bytes); !status.ok()) {
    FreeAligned(data, bytes);
    return status;
  }
  return data;
}

void FreePinned(std::byte* data, size_t size_bytes) {
  if (data == nullptr) return;
  const size_t bytes = PinnedBytes(size_bytes);
  for (size_t begin = 0; begin < bytes; begin += kLockedBytes) {
    (void)CudaStatus(cudaHostUnregister(data + begin), "cudaHostUnregister");
  }
  FreeAligned(data, bytes);
}

absl::StatusOr<PinnedMemory> PinnedMemory::Allocate(size_t size_bytes) {
  PinnedMemory memory;
  SKV_ASSIGN_OR_RETURN(memory.data_, AllocatePinned(size_bytes));
  memory.size_bytes_ = size_bytes;
  return memory;
}

}  // namespace sentencekv
