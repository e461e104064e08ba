#include "tests/support/cuda_sim/runtime_stream.h"

#include <fmt/format.h>

#include <set>

#include "tests/support/cuda_sim/report.h"
#include "tests/support/cuda_sim/runtime_graph.h"
#include "tests/support/cuda_sim/runtime_state.h"

// The runtime's opaque event.
struct CUevent_st {
  std::shared_ptr<cuda_sim::Point> point;  // nullptr: never recorded
};

namespace cuda_sim {
namespace {

std::set<CUevent_st*>& Events() {
  static std::set<CUevent_st*> events;
  return events;
}

int64_t& NumProgramStreams() {
  static int64_t streams = 0;
  return streams;
}

cudaError_t CheckStream(cudaStream_t stream) {
  if (stream == nullptr || stream == cudaStreamLegacy ||
      stream == cudaStreamPerThread) {
    return Misused("the default stream is used");
  }
  if (!IsStream(stream)) return Misused("a stream that was destroyed is used");
  return cudaSuccess;
}

cudaError_t CheckEvent(cudaEvent_t event) {
  if (Events().count(event) == 0) {
    return Misused("an event that was destroyed is used");
  }
  return cudaSuccess;
}

// A host cannot wait for what is only being written down.
cudaError_t CheckNotCaptured(const char* what) {
  return IsAnyCapturing() ? Misused(what) : cudaSuccess;
}

cudaError_t CreateStream(cudaStream_t* stream, unsigned flags) {
  if (flags != cudaStreamNonBlocking) {
    return Misused("a stream that waits for the default stream");
  }
  *stream = NewStream();
  ++NumProgramStreams();
  return cudaSuccess;
}

}  // namespace

cudaError_t Submit(cudaStream_t stream, Work work) {
  const cudaError_t error = CheckStream(stream);
  if (error != cudaSuccess) return error;
  auto shared = std::make_shared<const Work>(std::move(work));
  if (stream->capture != nullptr) {
    CaptureWork(stream, std::move(shared));
  } else {
    SubmitWork(stream, std::move(shared));
  }
  return cudaSuccess;
}

void SynchronizeAll() { (void)WaitForAll(); }

void ResetStreams() {
  for (CUevent_st* event : Events()) delete event;
  Events().clear();
  NumProgramStreams() = 0;
  ResetQueues();
}

int64_t LiveStreams() { return NumProgramStreams(); }
int64_t LiveEvents() { return static_cast<int64_t>(Events().size()); }

}  // namespace cuda_sim

using cuda_sim::CheckEvent;
using cuda_sim::CheckNotCaptured;
using cuda_sim::CheckStream;
using cuda_sim::ReleasingCall;
using cuda_sim::RuntimeCall;

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return RuntimeCall(__func__,
                     [&] { return cuda_sim::CreateStream(stream, flags); });
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags,
                                         int) {
  return RuntimeCall(__func__,
                     [&] { return cuda_sim::CreateStream(stream, flags); });
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return ReleasingCall(__func__, [&] {
    const cudaError_t error = CheckStream(stream);
    if (error != cudaSuccess) return error;
    cuda_sim::EndStream(stream);
    --cuda_sim::NumProgramStreams();
    return cudaSuccess;
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return RuntimeCall(__func__, [&] {
    cudaError_t error = CheckStream(stream);
    if (error == cudaSuccess) {
      error = CheckNotCaptured("the host waits while a stream is captured");
    }
    return error != cudaSuccess ? error : cuda_sim::WaitFor(stream);
  });
}

cudaError_t cudaDeviceSynchronize() {
  return RuntimeCall(__func__, [&] {
    const cudaError_t error =
        CheckNotCaptured("the host waits while a stream is captured");
    return error != cudaSuccess ? error : cuda_sim::WaitForAll();
  });
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return RuntimeCall(__func__, [&] {
    const cudaError_t error = CheckStream(stream);
    if (error != cudaSuccess) return error;
    cuda_sim::MakeProgress();
    if (!cuda_sim::IsIdle(stream)) return cudaErrorNotReady;
    return cuda_sim::WaitFor(stream);
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return RuntimeCall(__func__, [&] {
    *event = new CUevent_st();
    cuda_sim::Events().insert(*event);
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return ReleasingCall(__func__, [&] {
    const cudaError_t error = CheckEvent(event);
    if (error != cudaSuccess) return error;
    cuda_sim::Events().erase(event);
    delete event;
    return cudaSuccess;
  });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return RuntimeCall(__func__, [&] {
    cudaError_t error = CheckStream(stream);
    if (error == cudaSuccess) error = CheckEvent(event);
    if (error != cudaSuccess) return error;
    event->point = stream->capture != nullptr ? cuda_sim::CaptureRecord(stream)
                                              : cuda_sim::SubmitRecord(stream);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event,
                                unsigned) {
  return RuntimeCall(__func__, [&] {
    cudaError_t error = CheckStream(stream);
    if (error == cudaSuccess) error = CheckEvent(event);
    if (error != cudaSuccess) return error;
    if (event->point == nullptr) {
      return cuda_sim::Misused("a wait for an event that was never recorded");
    }
    if (event->point->capture != nullptr || stream->capture != nullptr) {
      return cuda_sim::CaptureWait(stream, *event->point);
    }
    cuda_sim::SubmitWait(stream, event->point);
    return cudaSuccess;
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return RuntimeCall(__func__, [&] {
    const cudaError_t error = CheckEvent(event);
    if (error != cudaSuccess) return error;
    if (event->point == nullptr) return cudaSuccess;
    if (event->point->capture != nullptr) {
      return cuda_sim::Misused("the host waits for a captured event");
    }
    return cuda_sim::WaitFor(*event->point);
  });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return RuntimeCall(__func__, [&] {
    const cudaError_t error = CheckEvent(event);
    if (error != cudaSuccess) return error;
    if (event->point == nullptr) return cudaSuccess;
    if (!event->point->has_passed) cuda_sim::MakeProgress();
    if (!event->point->has_passed) return cudaErrorNotReady;
    if (cuda_sim::HasReports()) return cudaErrorLaunchFailure;
    cuda_sim::HostSaw(*event->point);
    return cudaSuccess;
  });
}

// Time stands still on this device.
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin,
                                 cudaEvent_t end) {
  return RuntimeCall(__func__, [&] {
    for (cudaEvent_t event : {begin, end}) {
      const cudaError_t error = CheckEvent(event);
      if (error != cudaSuccess) return error;
      if (event->point == nullptr) return cudaErrorInvalidResourceHandle;
      if (!event->point->has_passed) return cudaErrorNotReady;
    }
    *milliseconds = 0.0f;
    return cudaSuccess;
  });
}

}  // extern "C"
