// The calls of the runtime that give memory and take it back.
#include <cuda_runtime_api.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "tests/support/cuda_sim/report.h"
#include "tests/support/cuda_sim/runtime_graph.h"
#include "tests/support/cuda_sim/runtime_memory.h"
#include "tests/support/cuda_sim/runtime_state.h"
#include "tests/support/cuda_sim/runtime_stream.h"

namespace cuda_sim {
namespace {

// What is larger is not filled, for the time that it takes: whoever asks for so
// much divides it, and has its blocks filled.
constexpr size_t kMaxFilledBytes = size_t{16} << 20;

// Whether the program has memory at all pages of this range.
bool IsMapped(uintptr_t begin, size_t size_bytes) {
  const uintptr_t first = begin / kPage * kPage;
  return msync(reinterpret_cast<void*>(first), begin + size_bytes - first,
               MS_ASYNC) == 0;
}

}  // namespace
}  // namespace cuda_sim

using cuda_sim::ReleasingCall;
using cuda_sim::RuntimeCall;

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t size) {
  return RuntimeCall(__func__, [&] {
    if (pointer == nullptr) return cudaErrorInvalidValue;
    *pointer = nullptr;
    if (cuda_sim::IsAnyCapturing()) {
      return cuda_sim::Misused("cudaMalloc while a stream is captured");
    }
    if (size == 0) return cudaSuccess;
    if (cuda_sim::LiveDeviceBytes() + size > cuda_sim::DeviceBytes()) {
      return cudaErrorMemoryAllocation;
    }
    *pointer = cuda_sim::TakeFromArena(size);
    cuda_sim::AddRegion(*pointer, size, /*is_device=*/true, false);
    if (size > cuda_sim::kMaxFilledBytes) return cudaSuccess;
    const cuda_sim::OpenDeviceMemory open;
    std::memset(*pointer, 0xff, size);
    return cudaSuccess;
  });
}

cudaError_t cudaFree(void* pointer) {
  return ReleasingCall(__func__, [&] {
    if (pointer == nullptr) return cudaSuccess;
    cuda_sim::Region* region = cuda_sim::LiveRegionAt(pointer);
    if (region == nullptr || !region->is_device) {
      return cuda_sim::Misused("cudaFree of what cudaMalloc did not give");
    }
    // As on a GPU: everything that was submitted runs first.
    cuda_sim::SynchronizeAll();
    madvise(pointer, cuda_sim::RoundUpToPage(region->size_bytes),
            MADV_DONTNEED);
    cuda_sim::EndRegion(region);
    return cudaSuccess;
  });
}

cudaError_t cudaHostAlloc(void** pointer, size_t size, unsigned) {
  return RuntimeCall(__func__, [&] {
    if (pointer == nullptr || size == 0) return cudaErrorInvalidValue;
    *pointer =
        std::aligned_alloc(cuda_sim::kPage, cuda_sim::RoundUpToPage(size));
    std::memset(*pointer, 0xff, size);
    cuda_sim::AddRegion(*pointer, size, /*is_device=*/false, false);
    return cudaSuccess;
  });
}

cudaError_t cudaMallocHost(void** pointer, size_t size) {
  return cudaHostAlloc(pointer, size, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void* pointer) {
  return ReleasingCall(__func__, [&] {
    if (pointer == nullptr) return cudaSuccess;
    cuda_sim::Region* region = cuda_sim::LiveRegionAt(pointer);
    if (region == nullptr || region->is_device || region->is_registered) {
      return cuda_sim::Misused("cudaFreeHost of what is not pinned memory");
    }
    cuda_sim::SynchronizeAll();
    cuda_sim::EndRegion(region);
    std::free(pointer);
    return cudaSuccess;
  });
}

cudaError_t cudaHostRegister(void* pointer, size_t size, unsigned) {
  return RuntimeCall(__func__, [&] {
    if (pointer == nullptr || size == 0) return cudaErrorInvalidValue;
    // Whole pages are locked, each by one registration.
    const auto first = reinterpret_cast<uintptr_t>(pointer);
    const uintptr_t begin = first / cuda_sim::kPage * cuda_sim::kPage;
    const uintptr_t end = cuda_sim::RoundUpToPage(first + size);
    const cuda_sim::Region* below = cuda_sim::NearestRegion(end - 1);
    if (below != nullptr && below->is_live && below->end() > begin) {
      return cudaErrorHostMemoryAlreadyRegistered;
    }
    if (!cuda_sim::IsMapped(begin, end - begin)) return cudaErrorInvalidValue;
    cuda_sim::AddRegion(pointer, size, /*is_device=*/false, true);
    return cudaSuccess;
  });
}

cudaError_t cudaHostUnregister(void* pointer) {
  return ReleasingCall(__func__, [&] {
    cuda_sim::Region* region = cuda_sim::LiveRegionAt(pointer);
    if (region == nullptr || !region->is_registered) {
      return cudaErrorHostMemoryNotRegistered;
    }
    cuda_sim::SynchronizeAll();
    const bool is_mapped =
        cuda_sim::IsMapped(region->begin, region->size_bytes);
    cuda_sim::EndRegion(region);
    return is_mapped ? cudaSuccess
                     : cuda_sim::Misused("memory was freed while registered");
  });
}

cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  return RuntimeCall(__func__, [&] {
    if (!cuda_sim::IsReachable(reinterpret_cast<uintptr_t>(host), 1)) {
      return cudaErrorInvalidValue;
    }
    *device = host;
    return cudaSuccess;
  });
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  return RuntimeCall(__func__, [&] {
    *total_bytes = cuda_sim::DeviceBytes();
    *free_bytes = cuda_sim::DeviceBytes() -
                  static_cast<size_t>(cuda_sim::LiveDeviceBytes());
    return cudaSuccess;
  });
}

}  // extern "C"
