// Streams as queues, and what orders their operations.
//
// Nothing runs when it is submitted. A call that waits runs operations until
// it has what it waits for; which others run before, the seed says. Vector
// clocks tell which operations are ordered by streams, events and waits of the
// host; two that are not and touch the same memory are a finding, in whatever
// order they ran.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/cuda_sim/shadow_memory.h"

namespace cuda_sim {

// By index of the stream: how many of its operations are done.
using Clock = std::vector<uint64_t>;
void Join(Clock* clock, const Clock& other);
inline uint64_t At(const Clock& clock, size_t stream) {
  return stream < clock.size() ? clock[stream] : 0;
}

struct OperationAccess {
  std::vector<Interval> reads;  // rising, apart
  std::vector<Interval> writes;
};

// What an operation does when its turn comes.
struct Work {
  std::string name;  // empty: a kernel's
  const void* kernel = nullptr;
  std::function<OperationAccess()> run;
};

struct Capture;

// What an event stands for once it is recorded.
struct Point {
  CUstream_st* stream = nullptr;
  uint64_t sequence = 0;  // of the record in its stream
  Clock clock;
  bool has_passed = false;
  // In a capture instead:
  Capture* capture = nullptr;
  int captured_number = 0;
};

// The functions below must not be called for a stream that is captured.
void SubmitWork(CUstream_st* stream, std::shared_ptr<const Work> work);
std::shared_ptr<Point> SubmitRecord(CUstream_st* stream);
void SubmitWait(CUstream_st* stream, std::shared_ptr<Point> point);

CUstream_st* NewStream();
void EndStream(CUstream_st* stream);  // its work runs first
bool IsStream(const CUstream_st* stream);
bool IsIdle(const CUstream_st* stream);

// Run what is needed, and what the seed adds; the host is after it then.
cudaError_t WaitFor(CUstream_st* stream);
cudaError_t WaitFor(const Point& point);
cudaError_t WaitForAll();
// Runs one operation or none: for a host that asks again and again.
void MakeProgress();
// The host has seen that the point has passed.
void HostSaw(const Point& point);

// Forgets all streams, and what the counts say.
void ResetQueues();
// Operations so far that wrote host memory.
uint64_t NumHostWrites();

}  // namespace cuda_sim

// The runtime's opaque stream.
struct CUstream_st {
  struct Queued {
    std::shared_ptr<const cuda_sim::Work> work;
    std::shared_ptr<cuda_sim::Point> record;
    std::shared_ptr<cuda_sim::Point> wait;
    uint64_t sequence = 0;
    cuda_sim::Clock clock;  // this operation's, itself included
  };
  size_t index = 0;
  uint64_t submitted = 0;
  cuda_sim::Clock clock;
  std::deque<Queued> queue;
  // Of the capture that this stream takes part in.
  cuda_sim::Capture* capture = nullptr;
  int lane = 0;
};
