#include "engine/request_queue.h"

#include <utility>

#include "fmt/format.h"
#include "kernels/check.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

absl::Status Stopped() {
  return absl::UnavailableError("the engine has stopped");
}

}  // namespace

RequestQueue::RequestQueue(const RequestQueueLimits& limits, const Clock& clock)
    : limits_(limits), clock_(clock) {}

absl::Status RequestQueue::CheckRoom(const GenerateRequest& request,
                                     RefusalReason* reason) const {
  if (draining_) {
    *reason = RefusalReason::kDraining;
    return absl::UnavailableError("the server is draining");
  }
  if (live_.contains(request.request_id)) {
    *reason = RefusalReason::kDuplicateId;
    return absl::AlreadyExistsError(fmt::format(
        "request_id: a live request has it: '{}'", request.request_id));
  }
  *reason = RefusalReason::kQueueFull;
  if (waiting_ >= limits_.max_waiting) {
    return absl::ResourceExhaustedError(
        fmt::format("the queue is full: {} requests wait", waiting_));
  }
  // A prompt that is longer than the limit itself may wait alone.
  const int64_t prompt_tokens = static_cast<int64_t>(request.prompt.size());
  if (waiting_ > 0 &&
      waiting_tokens_ + prompt_tokens > limits_.max_waiting_tokens) {
    return absl::ResourceExhaustedError(fmt::format(
        "the queue is full: {} prompt tokens wait, {} more would "
        "pass the limit of {}",
        waiting_tokens_, prompt_tokens, limits_.max_waiting_tokens));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<TokenStream>> RequestQueue::Push(
    GenerateRequest request, RefusalReason* reason) {
  const absl::Time now = clock_.Now();
  if (request.deadline <= now) {
    *reason = RefusalReason::kDeadline;
    return absl::DeadlineExceededError("the request's deadline has passed");
  }
  absl::MutexLock lock(&mutex_);
  SKV_RETURN_IF_ERROR(CheckRoom(request, reason));
  const int64_t arrival = num_accepted_++;
  if (request.request_id.empty()) {
    // Another caller may have chosen the same name.
    std::string id = fmt::format("request-{}", arrival);
    while (live_.contains(id)) id += '+';
    request.request_id = std::move(id);
  }
  auto stream = std::make_shared<TokenStream>(
      request.request_id, limits_.outbox_capacity, [queue = weak_from_this()] {
        if (const auto alive = queue.lock()) alive->Wake();
      });
  live_.emplace(request.request_id, stream);
  ++num_live_;
  ++waiting_;
  waiting_tokens_ += static_cast<int64_t>(request.prompt.size());
  incoming_.push_back({std::move(request), stream, arrival, now});
  work_.Signal();
  return stream;
}

absl::Status RequestQueue::Cancel(std::string_view request_id) {
  std::shared_ptr<TokenStream> stream;
  {
    absl::MutexLock lock(&mutex_);
    const auto entry = live_.find(std::string(request_id));
    if (entry == live_.end()) {
      return absl::NotFoundError(
          fmt::format("request_id: no live request has it: '{}'", request_id));
    }
    stream = entry->second;
  }
  stream->Cancel();
  return absl::OkStatus();
}

void RequestQueue::PushReset(ResetCallback done) {
  {
    absl::MutexLock lock(&mutex_);
    if (!stop_requested_) {
      resets_.push_back(std::move(done));
      work_.Signal();
      return;
    }
  }
  done(Stopped());
}

std::vector<ResetCallback> RequestQueue::TakeResets() {
  absl::MutexLock lock(&mutex_);
  return std::exchange(resets_, {});
}

void RequestQueue::Wake() {
  absl::MutexLock lock(&mutex_);
  woken_ = true;
  work_.Signal();
}

void RequestQueue::BeginDrain() {
  absl::MutexLock lock(&mutex_);
  draining_ = true;
}

bool RequestQueue::AwaitIdle(absl::Duration timeout) {
  const absl::Time deadline = clock_.Now() + timeout;
  absl::MutexLock lock(&mutex_);
  while (num_live_ > 0) {
    if (clock_.Now() >= deadline) return false;
    clock_.WaitUntil(idle_, mutex_, deadline);
  }
  return true;
}

void RequestQueue::RequestStop() {
  std::vector<ResetCallback> resets;
  {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
    stop_requested_ = true;
    resets = std::exchange(resets_, {});
    work_.Signal();
  }
  for (const ResetCallback& done : resets) done(Stopped());
}

RequestQueue::Counts RequestQueue::counts() const {
  absl::MutexLock lock(&mutex_);
  return {waiting_, waiting_tokens_, draining_};
}

std::vector<Submission> RequestQueue::TakeAll() {
  absl::MutexLock lock(&mutex_);
  woken_ = false;
  return std::exchange(incoming_, {});
}

void RequestQueue::WaitForWork(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  while (!woken_ && !stop_requested_ && incoming_.empty() && resets_.empty() &&
         clock_.Now() < deadline) {
    clock_.WaitUntil(work_, mutex_, deadline);
  }
}

bool RequestQueue::stop_requested() const {
  absl::MutexLock lock(&mutex_);
  return stop_requested_;
}

void RequestQueue::LeaveWaiting(int64_t prompt_tokens) {
  absl::MutexLock lock(&mutex_);
  --waiting_;
  waiting_tokens_ -= prompt_tokens;
  SKV_CHECK(waiting_ >= 0 && waiting_tokens_ >= 0);
}

void RequestQueue::ReleaseId(const std::string& request_id) {
  absl::MutexLock lock(&mutex_);
  SKV_CHECK(live_.erase(request_id) == 1);
}

void RequestQueue::MarkEnded(int64_t count) {
  absl::MutexLock lock(&mutex_);
  num_live_ -= count;
  SKV_CHECK(num_live_ >= 0);
  if (num_live_ == 0) idle_.SignalAll();
}

}  // namespace sentencekv
