#include "tests/support/cuda_sim/operation_queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "tests/support/cuda_sim/report.h"
#include "tests/support/cuda_sim/runtime_memory.h"
#include "tests/support/cuda_sim/runtime_state.h"

namespace cuda_sim {
namespace {

// An operation that has run, while another can come that is not after it.
struct Done {
  std::shared_ptr<const Work> work;
  size_t stream;
  uint64_t sequence;
  OperationAccess access;
};

struct Queues {
  std::vector<std::unique_ptr<CUstream_st>> streams;
  size_t next_index = 0;
  Clock host;
  std::vector<Done> done;
  uint64_t host_writes = 0;
  std::map<std::pair<std::string, const void*>, OperationCount> counts;
};

Queues& Q() {
  static Queues queues;
  return queues;
}

std::string NameOf(const Work& work) {
  return work.kernel != nullptr ? FunctionName(work.kernel) : work.name;
}

// An address that both have, 0 for none.
uintptr_t Overlap(const std::vector<Interval>& a,
                  const std::vector<Interval>& b) {
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const uintptr_t begin = std::max(a[i].begin, b[j].begin);
    if (begin < std::min(a[i].end, b[j].end)) return begin;
    a[i].end < b[j].end ? ++i : ++j;
  }
  return 0;
}

int64_t Bytes(const std::vector<Interval>& intervals) {
  int64_t bytes = 0;
  for (const Interval& i : intervals) {
    bytes += static_cast<int64_t>(i.end - i.begin);
  }
  return bytes;
}

int64_t HostBytes(const std::vector<Interval>& intervals) {
  int64_t bytes = 0;
  for (const Interval& i : intervals) {
    if (IsInDeviceArena(i.begin)) continue;
    bytes += static_cast<int64_t>(i.end - i.begin);
  }
  return bytes;
}

void CheckAgainstOthers(const CUstream_st::Queued& operation,
                        const OperationAccess& access) {
  for (const Done& other : Q().done) {
    if (At(operation.clock, other.stream) >= other.sequence) continue;
    uintptr_t address = Overlap(access.writes, other.access.writes);
    if (address == 0) address = Overlap(access.writes, other.access.reads);
    if (address == 0) address = Overlap(access.reads, other.access.writes);
    if (address == 0) continue;
    const Region* region = NearestRegion(address);
    AddReport(Finding::kOperationRace,
              fmt::format("\"{}\" and \"{}\" touch {:#x} ({}), and neither "
                          "stream nor event nor host orders them",
                          NameOf(*operation.work), NameOf(*other.work), address,
                          region == nullptr ? "" : Told(*region)));
    return;
  }
}

void Count(const Work& work, const OperationAccess& access) {
  OperationCount& count = Q().counts[{work.name, work.kernel}];
  ++count.launches;
  count.bytes_read += Bytes(access.reads);
  count.bytes_written += Bytes(access.writes);
  count.host_bytes_read += HostBytes(access.reads);
  const int64_t host_bytes_written = HostBytes(access.writes);
  count.host_bytes_written += host_bytes_written;
  if (host_bytes_written > 0) ++Q().host_writes;
}

bool IsReady(const CUstream_st& stream) {
  if (stream.queue.empty()) return false;
  const auto& front = stream.queue.front();
  return front.wait == nullptr || front.wait->has_passed;
}

void RunFront(CUstream_st* stream) {
  const CUstream_st::Queued operation = std::move(stream->queue.front());
  stream->queue.pop_front();
  if (operation.record != nullptr) operation.record->has_passed = true;
  if (operation.work == nullptr) return;
  OperationAccess access = operation.work->run();
  Count(*operation.work, access);
  if (HasReports()) return;
  CheckAgainstOthers(operation, access);
  Q().done.push_back(
      {operation.work, stream->index, operation.sequence, std::move(access)});
}

// The stream whose front must run before anything of `stream` can.
CUstream_st* WhatHolds(CUstream_st* stream) {
  while (!IsReady(*stream)) stream = stream->queue.front().wait->stream;
  return stream;
}

CUstream_st* ChooseOf(const std::vector<CUstream_st*>& streams) {
  return streams[RuntimeRandom().Below(streams.size())];
}

// After a finding nothing that was submitted makes sense.
void DropAll() {
  for (auto& stream : Q().streams) {
    for (auto& queued : stream->queue) {
      if (queued.record != nullptr) queued.record->has_passed = true;
    }
    stream->queue.clear();
  }
  Q().done.clear();
}

// Forgets what everything that is still to come is after.
void ForgetOrdered() {
  std::erase_if(Q().done, [](const Done& done) {
    if (At(Q().host, done.stream) < done.sequence) return false;
    for (const auto& stream : Q().streams) {
      for (const auto& queued : stream->queue) {
        if (At(queued.clock, done.stream) < done.sequence) return false;
      }
    }
    return true;
  });
}

enum class Eagerness { kOnlyWhatIsNeeded, kAnything, kOthersFirst };

// Until `stream` has done its first `sequence` operations.
cudaError_t Drain(CUstream_st* stream, uint64_t sequence) {
  const OpenDeviceMemory open;
  const auto eagerness = static_cast<Eagerness>(RuntimeRandom().Below(3));
  while (!stream->queue.empty() && stream->queue.front().sequence <= sequence) {
    std::vector<CUstream_st*> ready;
    for (const auto& other : Q().streams) {
      if (IsReady(*other) &&
          (other.get() != stream || eagerness != Eagerness::kOthersFirst)) {
        ready.push_back(other.get());
      }
    }
    RunFront(eagerness == Eagerness::kOnlyWhatIsNeeded || ready.empty()
                 ? WhatHolds(stream)
                 : ChooseOf(ready));
    if (HasReports()) {
      DropAll();
      return cudaErrorLaunchFailure;
    }
  }
  return cudaSuccess;
}

CUstream_st::Queued* Push(CUstream_st* stream) {
  Join(&stream->clock, Q().host);
  stream->clock.resize(std::max(stream->clock.size(), stream->index + 1));
  stream->clock[stream->index] = ++stream->submitted;
  CUstream_st::Queued queued;
  queued.sequence = stream->submitted;
  queued.clock = stream->clock;
  stream->queue.push_back(std::move(queued));
  return &stream->queue.back();
}

}  // namespace

void Join(Clock* clock, const Clock& other) {
  clock->resize(std::max(clock->size(), other.size()));
  for (size_t i = 0; i < other.size(); ++i) {
    (*clock)[i] = std::max((*clock)[i], other[i]);
  }
}

void SubmitWork(CUstream_st* stream, std::shared_ptr<const Work> work) {
  Push(stream)->work = std::move(work);
}

std::shared_ptr<Point> SubmitRecord(CUstream_st* stream) {
  auto point = std::make_shared<Point>();
  CUstream_st::Queued* queued = Push(stream);
  queued->record = point;
  point->stream = stream;
  point->sequence = queued->sequence;
  point->clock = queued->clock;
  return point;
}

void SubmitWait(CUstream_st* stream, std::shared_ptr<Point> point) {
  Join(&stream->clock, point->clock);
  Push(stream)->wait = std::move(point);
}

CUstream_st* NewStream() {
  Q().streams.push_back(std::make_unique<CUstream_st>());
  Q().streams.back()->index = Q().next_index++;
  return Q().streams.back().get();
}

void EndStream(CUstream_st* stream) {
  (void)Drain(stream, stream->submitted);
  std::erase_if(Q().streams,
                [&](const auto& other) { return other.get() == stream; });
}

bool IsStream(const CUstream_st* stream) {
  return std::any_of(Q().streams.begin(), Q().streams.end(),
                     [&](const auto& other) { return other.get() == stream; });
}

bool IsIdle(const CUstream_st* stream) { return stream->queue.empty(); }

cudaError_t WaitFor(CUstream_st* stream) {
  const cudaError_t error = Drain(stream, stream->submitted);
  if (error != cudaSuccess) return error;
  Join(&Q().host, stream->clock);
  ForgetOrdered();
  return cudaSuccess;
}

cudaError_t WaitFor(const Point& point) {
  if (!point.has_passed) {
    const cudaError_t error = Drain(point.stream, point.sequence);
    if (error != cudaSuccess) return error;
  }
  HostSaw(point);
  return cudaSuccess;
}

cudaError_t WaitForAll() {
  for (const auto& stream : Q().streams) {
    const cudaError_t error = WaitFor(stream.get());
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

void MakeProgress() {
  std::vector<CUstream_st*> ready;
  for (const auto& stream : Q().streams) {
    if (IsReady(*stream)) ready.push_back(stream.get());
  }
  if (ready.empty() || RuntimeRandom().Below(3) == 0) return;
  const OpenDeviceMemory open;
  RunFront(ChooseOf(ready));
  if (HasReports()) DropAll();
}

void HostSaw(const Point& point) {
  Join(&Q().host, point.clock);
  ForgetOrdered();
}

void ResetQueues() { Q() = Queues(); }

uint64_t NumHostWrites() { return Q().host_writes; }

std::vector<OperationCount> OperationCounts() {
  std::vector<OperationCount> counts;
  for (const auto& [key, count] : Q().counts) {
    counts.push_back(count);
    counts.back().name =
        key.second != nullptr ? FunctionName(key.second) : key.first;
  }
  return counts;
}

}  // namespace cuda_sim
