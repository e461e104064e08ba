#include "kernels/cuda/cuda_streams.h"

#include <algorithm>
#include <cstddef>
#include <functional>

#include "fmt/format.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// Whether `next` goes on where `run` ends, in both memories.
bool Continues(const CopyRun& run, const CopyRun& next) {
  return static_cast<std::byte*>(run.destination) + run.size_bytes ==
             next.destination &&
         static_cast<const std::byte*>(run.source) + run.size_bytes ==
             next.source;
}

absl::Status CheckRuns(DeviceStream stream, std::span<const CopyRun> runs) {
  if (stream != DeviceStream::kToDevice && stream != DeviceStream::kToHost) {
    return absl::InvalidArgumentError("Transfer: the stream makes no copies");
  }
  for (const CopyRun& run : runs) {
    if (run.size_bytes > 0 &&
        (run.destination == nullptr || run.source == nullptr)) {
      return absl::InvalidArgumentError(
          fmt::format("Transfer: {} is null",
                      run.destination == nullptr ? "destination" : "source"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaStreams>> CudaStreams::Create() {
  std::unique_ptr<CudaStreams> streams(new CudaStreams);
  for (Stream& stream : streams->streams_) {
    SKV_RETURN_IF_CUDA_ERROR(
        cudaStreamCreateWithFlags(&stream.handle, cudaStreamNonBlocking));
  }
  return streams;
}

CudaStreams::~CudaStreams() {
  // Errors have no reader any more.
  (void)AwaitAll();
  for (Stream& stream : streams_) {
    for (const RecordedEvent& recorded : stream.recorded) {
      idle_.push_back(recorded.event);
    }
    if (stream.handle != nullptr) (void)cudaStreamDestroy(stream.handle);
  }
  for (const cudaEvent_t event : idle_) (void)cudaEventDestroy(event);
}

// One copy for runs that lie one after the other: a copy costs microseconds,
// however short it is.
absl::Status CudaStreams::Transfer(DeviceStream stream,
                                   std::span<const CopyRun> runs,
                                   const PinnedPool& pinned) {
  SKV_RETURN_IF_ERROR(CheckRuns(stream, runs));
  // The runtime tells copies inside host memory from those that leave the
  // device by their addresses.
  const cudaMemcpyKind kind = stream == DeviceStream::kToDevice
                                  ? cudaMemcpyHostToDevice
                                  : cudaMemcpyDefault;
  for (size_t i = 0; i < runs.size();) {
    CopyRun copy = runs[i];
    for (++i; i < runs.size() && Continues(copy, runs[i]); ++i) {
      copy.size_bytes += runs[i].size_bytes;
    }
    for (size_t done = 0; done < copy.size_bytes;) {
      std::byte* to = static_cast<std::byte*>(copy.destination) + done;
      const std::byte* from = static_cast<const std::byte*>(copy.source) + done;
      const size_t size =
          std::min({copy.size_bytes - done, pinned.BytesLeftInPiece(to),
                    pinned.BytesLeftInPiece(from)});
      SKV_RETURN_IF_CUDA_ERROR(
          cudaMemcpyAsync(to, from, size, kind, handle(stream)));
      done += size;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<DeviceEvent> CudaStreams::Record(DeviceStream stream) {
  Stream& mine = of(stream);
  SKV_RETURN_IF_ERROR(Reclaim(mine));
  SKV_ASSIGN_OR_RETURN(const cudaEvent_t event, TakeIdle());
  const cudaError_t error = cudaEventRecord(event, mine.handle);
  if (error != cudaSuccess) {
    idle_.push_back(event);
    return CudaStatus(error, "cudaEventRecord");
  }
  mine.recorded.push_back({++mine.last_number, event});
  return DeviceEvent{stream, mine.last_number};
}

absl::Status CudaStreams::Wait(DeviceStream stream, const DeviceEvent& event) {
  if (event.stream == stream) return absl::OkStatus();
  SKV_ASSIGN_OR_RETURN(const cudaEvent_t recorded, Find(event));
  if (recorded == nullptr) return absl::OkStatus();
  return CudaStatus(cudaStreamWaitEvent(handle(stream), recorded, 0),
                    "cudaStreamWaitEvent");
}

absl::StatusOr<bool> CudaStreams::HasPassed(const DeviceEvent& event) {
  SKV_RETURN_IF_ERROR(Reclaim(of(event.stream)));
  SKV_ASSIGN_OR_RETURN(const cudaEvent_t recorded, Find(event));
  return recorded == nullptr;
}

absl::Status CudaStreams::Await(const DeviceEvent& event) {
  SKV_ASSIGN_OR_RETURN(const cudaEvent_t recorded, Find(event));
  if (recorded == nullptr) return absl::OkStatus();
  return CudaStatus(cudaEventSynchronize(recorded), "cudaEventSynchronize");
}

absl::Status CudaStreams::AwaitAll() {
  absl::Status status;
  for (Stream& stream : streams_) {
    if (stream.handle == nullptr) continue;
    status.Update(CudaStatus(cudaStreamSynchronize(stream.handle),
                             "cudaStreamSynchronize"));
  }
  return status;
}

absl::StatusOr<cudaEvent_t> CudaStreams::Find(const DeviceEvent& event) {
  const Stream& stream = of(event.stream);
  if (event.number > stream.last_number) {
    return absl::InvalidArgumentError(
        fmt::format("event {} of a stream that has recorded {}", event.number,
                    stream.last_number));
  }
  const auto found = std::ranges::lower_bound(
      stream.recorded, event.number, std::less<>(), &RecordedEvent::number);
  const bool is_pending =
      found != stream.recorded.end() && found->number == event.number;
  return is_pending ? found->event : nullptr;
}

absl::Status CudaStreams::Reclaim(Stream& stream) {
  while (!stream.recorded.empty()) {
    const cudaEvent_t event = stream.recorded.front().event;
    const cudaError_t error = cudaEventQuery(event);
    if (error == cudaErrorNotReady) {
      (void)cudaGetLastError();
      return absl::OkStatus();
    }
    SKV_RETURN_IF_ERROR(CudaStatus(error, "cudaEventQuery"));
    stream.recorded.pop_front();
    idle_.push_back(event);
  }
  return absl::OkStatus();
}

absl::StatusOr<cudaEvent_t> CudaStreams::TakeIdle() {
  cudaEvent_t event = nullptr;
  if (idle_.empty()) {
    SKV_RETURN_IF_CUDA_ERROR(
        cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return event;
  }
  event = idle_.back();
  idle_.pop_back();
  return event;
}

}  // namespace sentencekv
