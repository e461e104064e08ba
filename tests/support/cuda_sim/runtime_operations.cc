#include "tests/support/cuda_sim/runtime_operations.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <cstring>
#include <map>

#include "cuda_sim/fiber_calls.h"
#include "cuda_sim/launch_call.h"
#include "tests/support/cuda_sim/access_check.h"
#include "tests/support/cuda_sim/fiber_exec.h"
#include "tests/support/cuda_sim/report.h"
#include "tests/support/cuda_sim/runtime_graph.h"
#include "tests/support/cuda_sim/runtime_memory.h"
#include "tests/support/cuda_sim/runtime_state.h"
#include "tests/support/cuda_sim/runtime_stream.h"
#include "tests/support/cuda_sim/shared_memory.h"

namespace cuda_sim {
namespace {

// Dynamic shared memory that a kernel was allowed.
std::map<const void*, size_t>& AllowedSharedBytes() {
  static std::map<const void*, size_t> allowed;
  return allowed;
}
constexpr size_t kSharedBytesWithoutAsking = 48 * 1024;

bool IsLaunchable(const cudaLaunchConfig_t& config, const void* kernel) {
  const dim3& grid = config.gridDim;
  const dim3& block = config.blockDim;
  const auto allowed = AllowedSharedBytes().find(kernel);
  const size_t max_shared = allowed != AllowedSharedBytes().end()
                                ? allowed->second
                                : kSharedBytesWithoutAsking;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  return grid.x > 0 && grid.x < (1u << 31) && grid.y > 0 && grid.y < 65536 &&
         grid.z > 0 && grid.z < 65536 && threads > 0 && threads <= 1024 &&
         block.z <= 64 && config.dynamicSmemBytes <= max_shared &&
         config.numAttrs == 0;
}

// The host's memory of a copy as it was when the copy was submitted.
uint64_t Checksum(const void* memory, size_t size) {
  uint64_t sum = 14695981039346656037u;
  const auto* bytes = static_cast<const unsigned char*>(memory);
  for (size_t i = 0; i < size; ++i) sum = (sum ^ bytes[i]) * 1099511628211u;
  return sum;
}

struct Copy {
  std::byte* to;
  const std::byte* from;
  size_t size;
  bool is_from_host;
  uint64_t checksum = 0;
  uint64_t host_writes = 0;
};

OperationAccess RunCopy(const char* name, const Copy& copy) {
  if (!CheckWhole(name, copy.to, copy.size) ||
      !CheckWhole(name, copy.from, copy.size)) {
    return {};
  }
  // What operations wrote there is nobody's mistake.
  if (copy.is_from_host && copy.host_writes == NumHostWrites() &&
      copy.checksum != Checksum(copy.from, copy.size)) {
    AddReport(Finding::kHostChangedSource,
              fmt::format("{} bytes at {}", copy.size,
                          static_cast<const void*>(copy.from)));
    return {};
  }
  std::memmove(copy.to, copy.from, copy.size);
  return {{IntervalOf(copy.from, copy.size)}, {IntervalOf(copy.to, copy.size)}};
}

cudaError_t SubmitCopy(void* to, const void* from, size_t size,
                       cudaMemcpyKind kind, cudaStream_t stream) {
  if (size == 0) return cudaSuccess;
  const bool is_to_device = IsInDeviceArena(reinterpret_cast<uintptr_t>(to));
  const bool is_from_device =
      IsInDeviceArena(reinterpret_cast<uintptr_t>(from));
  const cudaMemcpyKind actual =
      is_to_device
          ? (is_from_device ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice)
          : (is_from_device ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost);
  if (kind != cudaMemcpyDefault && kind != actual) {
    return Misused("a copy says another direction than its addresses");
  }
  for (const void* memory : {static_cast<const void*>(to), from}) {
    const auto address = reinterpret_cast<uintptr_t>(memory);
    if (!IsInDeviceArena(address) && !IsReachable(address, size)) {
      AddReport(Finding::kUnpinnedCopy,
                fmt::format("{} bytes at {}", size, memory));
      return cudaErrorInvalidValue;
    }
  }
  Copy copy{static_cast<std::byte*>(to), static_cast<const std::byte*>(from),
            size, !is_from_device};
  // A captured copy reads what is there at each launch.
  if (stream != nullptr && copy.is_from_host && !IsCapturing(stream)) {
    copy.checksum = Checksum(from, size);
    copy.host_writes = NumHostWrites();
  } else {
    copy.is_from_host = false;
  }
  const char* name = actual == cudaMemcpyHostToDevice   ? "copy to device"
                     : actual == cudaMemcpyDeviceToHost ? "copy to host"
                     : actual == cudaMemcpyHostToHost   ? "copy on host"
                                                        : "copy on device";
  return Submit(stream, {name, nullptr, [=] { return RunCopy(name, copy); }});
}

// Rows of a copy inside device memory.
struct RowsCopy {
  std::byte* to;
  size_t to_stride;
  const std::byte* from;
  size_t from_stride;
  size_t row_bytes;
  size_t num_rows;
};

// Rows that touch are one interval.
void AddBehind(const std::vector<Interval>& row, std::vector<Interval>* all) {
  for (const Interval& interval : row) {
    if (!all->empty() && all->back().end == interval.begin) {
      all->back().end = interval.end;
    } else {
      all->push_back(interval);
    }
  }
}

OperationAccess RunRows(const RowsCopy& copy) {
  OperationAccess all;
  for (size_t i = 0; i < copy.num_rows; ++i) {
    const OperationAccess row =
        RunCopy("copy on device",
                {copy.to + i * copy.to_stride, copy.from + i * copy.from_stride,
                 copy.row_bytes, /*is_from_host=*/false});
    AddBehind(row.reads, &all.reads);
    AddBehind(row.writes, &all.writes);
  }
  return all;
}

cudaError_t SubmitRows(const RowsCopy& copy, cudaMemcpyKind kind,
                       cudaStream_t stream) {
  if (kind != cudaMemcpyDeviceToDevice ||
      !IsInDeviceArena(reinterpret_cast<uintptr_t>(copy.to)) ||
      !IsInDeviceArena(reinterpret_cast<uintptr_t>(copy.from))) {
    return Misused("rows are copied elsewhere than inside device memory");
  }
  if (copy.row_bytes > copy.to_stride || copy.row_bytes > copy.from_stride) {
    return cudaErrorInvalidPitchValue;
  }
  return Submit(stream,
                {"copy on device", nullptr, [=] { return RunRows(copy); }});
}

}  // namespace

Interval IntervalOf(const void* memory, size_t size) {
  const auto begin = reinterpret_cast<uintptr_t>(memory);
  return {begin, begin + size};
}

bool CheckWhole(const char* name, const void* memory, size_t size) {
  const auto address = reinterpret_cast<uintptr_t>(memory);
  if (IsReachable(address, size)) return true;
  const Region* region = NearestRegion(address);
  const bool is_freed =
      region != nullptr && !region->is_live && address < region->end();
  AddReport(is_freed ? Finding::kUseAfterFree : Finding::kOutOfBounds,
            fmt::format("{}: {} bytes at {:#x} ({})", name, size, address,
                        region == nullptr ? "no memory" : Told(*region)));
  return false;
}

cudaError_t SubmitLaunch(const cudaLaunchConfig_t& config, const void* kernel,
                         ThreadFunction run_thread, void* call) {
  const std::shared_ptr<void> owned(call, &std::free);
  return RuntimeCall("cudaLaunchKernelEx", [&] {
    if (!IsLaunchable(config, kernel)) return cudaErrorInvalidConfiguration;
    if (uint64_t{config.gridDim.x} * config.gridDim.y * config.gridDim.z >
        kMaxBlocks) {
      return Misused("a grid of more blocks than the simulation can count");
    }
    KernelLaunch launch;
    launch.grid = config.gridDim;
    launch.block = config.blockDim;
    launch.shared_bytes = config.dynamicSmemBytes;
    launch.kernel = kernel;
    launch.run_thread = run_thread;
    launch.call = call;
    return Submit(config.stream,
                  {"", kernel, [launch, owned] {
                     RunKernel(launch, &RuntimeRandom());
                     return OperationAccess{LaunchReads(), LaunchWrites()};
                   }});
  });
}

cudaError_t MarkBlock(void* data, size_t size_bytes, bool is_taken,
                      cudaStream_t stream) {
  return RuntimeCall("MarkBlock", [&] {
    if (!IsInDeviceArena(reinterpret_cast<uintptr_t>(data))) {
      return Misused("a block outside of device memory");
    }
    return Submit(stream,
                  {"mark block", nullptr, [=] {
                     SetBlock(data, size_bytes, is_taken);
                     return OperationAccess{{}, {IntervalOf(data, size_bytes)}};
                   }});
  });
}

}  // namespace cuda_sim

using cuda_sim::RuntimeCall;

extern "C" {

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size,
                            cudaMemcpyKind kind, cudaStream_t stream) {
  return RuntimeCall(__func__, [&] {
    return cuda_sim::SubmitCopy(to, from, size, kind, stream);
  });
}

// Inside device memory only.
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_stride, const void* from,
                              size_t from_stride, size_t width, size_t height,
                              cudaMemcpyKind kind, cudaStream_t stream) {
  return RuntimeCall(__func__, [&] {
    return cuda_sim::SubmitRows(
        {static_cast<std::byte*>(to), to_stride,
         static_cast<const std::byte*>(from), from_stride, width, height},
        kind, stream);
  });
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t size,
                            cudaStream_t stream) {
  return RuntimeCall(__func__, [&] {
    if (size == 0) return cudaSuccess;
    return cuda_sim::Submit(
        stream, {"memset", nullptr, [=] {
                   cuda_sim::OperationAccess access;
                   if (cuda_sim::CheckWhole("memset", to, size)) {
                     std::memset(to, value, size);
                     access.writes = {cuda_sim::IntervalOf(to, size)};
                   }
                   return access;
                 }});
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function,
                               void* data) {
  return RuntimeCall(__func__, [&] {
    return cuda_sim::Submit(stream, {"host function", nullptr, [=] {
                                       function(data);
                                       return cuda_sim::OperationAccess();
                                     }});
  });
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute name,
                                 int value) {
  return RuntimeCall(__func__, [&] {
    if (name != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    const auto bytes = static_cast<size_t>(value);
    if (bytes > cuda_sim::SharedMemory::kMaxBytes) return cudaErrorInvalidValue;
    cuda_sim::AllowedSharedBytes()[kernel] = bytes;
    return cudaSuccess;
  });
}

}  // extern "C"
