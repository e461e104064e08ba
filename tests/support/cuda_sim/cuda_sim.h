// A simulated CUDA device: what tests ask of it. Code under test knows it only
// as the CUDA runtime and cuBLASLt, whose functions it defines.
//
// Kernels run as fibres, one block after the other, in an order drawn from a
// seed. Streams are queues: work runs when the host waits for something, as
// early or as late as the seed has it. What a GPU would leave undefined is a
// finding: it is reported, and every later call of the runtime fails with
// cudaErrorLaunchFailure until the reports are taken.
#pragma once

#include <driver_types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cuda_sim {

enum class Finding : uint8_t {
  // Of one access by device code.
  kOutOfBounds,
  kUseAfterFree,
  kUnpinnedHostMemory,
  kOtherThreadsLocal,
  kMisaligned,
  kUnwrittenShared,
  kUnfinishedCopy,  // cp.async that was not waited for
  // Of two accesses that nothing orders.
  kThreadRace,     // in one block
  kBlockRace,      // in one launch
  kOperationRace,  // in different operations of streams
  // Of threads that should meet.
  kBarrierDivergence,
  kWarpDivergence,
  // Of host code.
  kHostTouchedDeviceMemory,
  kHostChangedSource,  // of a copy that had not run yet
  kUnpinnedCopy,
  kRuntimeMisuse,
};
std::string_view FindingName(Finding finding);

struct Report {
  Finding finding;
  std::string text;  // who, where (file:line), what
};

// What was found since the last call. The device works again afterwards.
std::vector<Report> TakeReports();

struct Options {
  uint64_t seed = 1;  // order of threads, blocks and operations
  size_t device_bytes = size_t{1} << 30;
};
// A fresh device. Whatever the old one still held is lost.
void Reset(const Options& options);

// For code that hands out blocks of device memory itself: from this point of
// the stream on, the allocation that `data` lies in is divided, and operations
// may only touch its blocks, each by itself. A block that is taken has
// undefined contents; one that is not any more is as good as freed.
cudaError_t MarkBlock(void* data, size_t size_bytes, bool is_taken,
                      cudaStream_t stream);

// Lets the n-th call (from 1) of a runtime or cuBLASLt function from now on
// fail with `error`; "" counts the calls of all functions that can fail.
void FailCall(std::string_view function, int64_t n,
              cudaError_t error = cudaErrorUnknown);
// Calls since Reset of one function, "" of all that can fail.
int64_t CallsOf(std::string_view function);

// What operations did since Reset, by name: a kernel's own, "copy to device",
// "copy to host", "copy on device", "memset", "matmul".
struct OperationCount {
  std::string name;
  int64_t launches = 0;
  int64_t bytes_read = 0;  // each byte once a launch
  int64_t bytes_written = 0;
  // Of these, what lies in host memory: it goes over the link.
  int64_t host_bytes_read = 0;
  int64_t host_bytes_written = 0;
};
std::vector<OperationCount> OperationCounts();

// What the program has not given back.
struct LiveObjects {
  int64_t device_bytes = 0;
  int64_t pinned_bytes = 0;
  int64_t streams = 0;
  int64_t events = 0;
  int64_t graphs = 0;  // and their executables
};
LiveObjects CountLiveObjects();

}  // namespace cuda_sim
