#include "kernels/cpu/copy_streams.h"

#include <cstring>
#include <utility>

#include "kernels/check.h"

namespace sentencekv {

CopyStreams::CopyStreams(CopyTiming timing) : timing_(timing) {
  if (timing == CopyTiming::kLatest) return;
  for (const DeviceStream stream :
       {DeviceStream::kToDevice, DeviceStream::kToHost}) {
    threads_.emplace_back([this, stream] { RunThread(stream); });
  }
}

CopyStreams::~CopyStreams() {
  AwaitAll();
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

CopyStreams::Stream& CopyStreams::of(DeviceStream stream) {
  SKV_CHECK(stream != DeviceStream::kCompute);
  return streams_[static_cast<size_t>(stream)];
}

void CopyStreams::Transfer(DeviceStream stream, std::span<const CopyRun> runs) {
  Submit(stream, {.runs = {runs.begin(), runs.end()}, .wait_for = {}});
}

void CopyStreams::Wait(DeviceStream stream, const DeviceEvent& event) {
  if (event.stream == stream || event.number == 0) return;
  Submit(stream, {.runs = {}, .wait_for = event});
}

void CopyStreams::Submit(DeviceStream stream, Work work) {
  absl::MutexLock lock(&mutex_);
  of(stream).work.push_back(std::move(work));
  ++of(stream).num_submitted;
}

DeviceEvent CopyStreams::Record(DeviceStream stream) {
  absl::MutexLock lock(&mutex_);
  return {stream, of(stream).num_submitted};
}

bool CopyStreams::HasPassed(const DeviceEvent& event) {
  return of(event.stream).num_done >= event.number;
}

void CopyStreams::Await(const DeviceEvent& event) {
  if (timing_ == CopyTiming::kLatest) return RunUpTo(event);
  const auto has_passed = [this, &event]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(
                              mutex_) { return HasPassed(event); };
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(&has_passed));
}

void CopyStreams::AwaitAll() {
  Await(Record(DeviceStream::kToDevice));
  Await(Record(DeviceStream::kToHost));
}

void CopyStreams::Copy(std::span<const CopyRun> runs) {
  for (const CopyRun& run : runs) {
    std::memcpy(run.destination, run.source, run.size_bytes);
  }
}

void CopyStreams::RunThread(DeviceStream stream) {
  const auto has_work = [this, stream]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const Stream& mine = of(stream);
    if (mine.work.empty()) return stopping_;
    const DeviceEvent& event = mine.work.front().wait_for;
    return event.number == 0 || HasPassed(event);
  };
  absl::MutexLock lock(&mutex_);
  while (true) {
    mutex_.Await(absl::Condition(&has_work));
    Stream& mine = of(stream);
    if (mine.work.empty()) return;
    const Work work = std::move(mine.work.front());
    mine.work.pop_front();
    mutex_.Unlock();
    Copy(work.runs);
    mutex_.Lock();
    ++mine.num_done;
  }
}

void CopyStreams::RunUpTo(const DeviceEvent& event) {
  while (true) {
    Work work;
    {
      absl::MutexLock lock(&mutex_);
      if (HasPassed(event)) return;
      work = std::move(of(event.stream).work.front());
      of(event.stream).work.pop_front();
    }
    if (work.wait_for.number != 0) RunUpTo(work.wait_for);
    Copy(work.runs);
    absl::MutexLock lock(&mutex_);
    ++of(event.stream).num_done;
  }
}

}  // namespace sentencekv
