#include "server/stream_pump.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/time/clock.h"

namespace sentencekv {

StreamPump::StreamPump(absl::Duration stall_timeout)
    : stall_timeout_(stall_timeout), thread_([this] { Run(); }) {}

StreamPump::~StreamPump() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

void StreamPump::Add(const PumpedStream* key,
                     std::weak_ptr<PumpedStream> stream) {
  absl::MutexLock lock(&mutex_);
  streams_[key] = std::move(stream);
}

void StreamPump::Remove(const PumpedStream* key) {
  absl::MutexLock lock(&mutex_);
  streams_.erase(key);
}

void StreamPump::Post(std::weak_ptr<PumpedStream> stream) {
  absl::MutexLock lock(&mutex_);
  posted_.push_back(std::move(stream));
}

int64_t StreamPump::num_streams() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int64_t>(streams_.size());
}

bool StreamPump::AwaitNone(absl::Duration timeout) const {
  absl::MutexLock lock(&mutex_);
  const auto none = [this] {
    mutex_.AssertReaderHeld();
    return streams_.empty();
  };
  return mutex_.AwaitWithTimeout(absl::Condition(&none), timeout);
}

void StreamPump::Run() {
  // A stall is noticed at most a quarter of the timeout late.
  const absl::Duration tick =
      std::clamp(stall_timeout_ / 4, absl::Milliseconds(10), absl::Seconds(1));
  absl::Time next_check = absl::Now() + tick;
  while (true) {
    std::deque<std::weak_ptr<PumpedStream>> posted;
    {
      absl::MutexLock lock(&mutex_);
      const auto has_work = [this] {
        mutex_.AssertReaderHeld();
        return stopping_ || !posted_.empty();
      };
      mutex_.AwaitWithDeadline(absl::Condition(&has_work), next_check);
      if (stopping_) return;
      posted.swap(posted_);
    }
    for (const std::weak_ptr<PumpedStream>& entry : posted) {
      if (const std::shared_ptr<PumpedStream> stream = entry.lock())
        stream->Pump();
    }
    if (absl::Now() >= next_check) {
      CheckStalls();
      next_check = absl::Now() + tick;
    }
  }
}

void StreamPump::CheckStalls() {
  std::vector<std::shared_ptr<PumpedStream>> streams;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [key, entry] : streams_) {
      if (std::shared_ptr<PumpedStream> stream = entry.lock())
        streams.push_back(std::move(stream));
    }
  }
  const absl::Time now = absl::Now();
  for (const std::shared_ptr<PumpedStream>& stream : streams)
    stream->AbortWhenStalled(now, stall_timeout_);
}

}  // namespace sentencekv
