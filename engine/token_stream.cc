#include "engine/token_stream.h"

#include <utility>

#include "kernels/check.h"

namespace sentencekv {

TokenStream::TokenStream(std::string request_id, size_t capacity,
                         std::function<void()> on_attention)
    : request_id_(std::move(request_id)),
      capacity_(capacity),
      on_attention_(std::move(on_attention)) {
  SKV_CHECK(capacity >= 1);
}

void TokenStream::SetReadyCallback(std::function<void()> on_ready) {
  {
    absl::MutexLock lock(&mutex_);
    SKV_CHECK(on_ready_ == nullptr);
    on_ready_ = on_ready;
    if (events_.empty()) return;
  }
  on_ready();
}

std::optional<StreamEvent> TokenStream::TryPop() {
  std::function<void()> on_attention;
  std::optional<StreamEvent> event;
  {
    absl::MutexLock lock(&mutex_);
    event = PopLocked(&on_attention);
  }
  if (on_attention) on_attention();
  return event;
}

std::optional<StreamEvent> TokenStream::Pop(absl::Duration timeout) {
  std::function<void()> on_attention;
  std::optional<StreamEvent> event;
  {
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(this, &TokenStream::PopWouldReturn),
                            timeout);
    event = PopLocked(&on_attention);
  }
  if (on_attention) on_attention();
  return event;
}

std::optional<StreamEvent> TokenStream::PopLocked(
    std::function<void()>* on_attention) {
  if (events_.empty()) return std::nullopt;
  const bool was_full = events_.size() >= capacity_;
  StreamEvent event = std::move(events_.front());
  events_.pop_front();
  if (was_full && events_.size() < capacity_) *on_attention = on_attention_;
  return event;
}

void TokenStream::Cancel() {
  std::function<void()> on_attention;
  {
    absl::MutexLock lock(&mutex_);
    if (cancelled_ || finished_) return;
    cancelled_ = true;
    on_attention = on_attention_;
  }
  if (on_attention) on_attention();
}

bool TokenStream::Push(StreamEvent&& event) {
  std::function<void()> on_ready;
  {
    absl::MutexLock lock(&mutex_);
    SKV_CHECK(!finished_);
    if (event.finish.has_value()) {
      finished_ = true;
      on_attention_ = nullptr;
    } else if (events_.size() >= capacity_) {
      return false;
    }
    if (events_.empty()) on_ready = on_ready_;
    events_.push_back(std::move(event));
  }
  if (on_ready) on_ready();
  return true;
}

bool TokenStream::full() const {
  absl::MutexLock lock(&mutex_);
  return events_.size() >= capacity_;
}

bool TokenStream::cancelled() const {
  absl::MutexLock lock(&mutex_);
  return cancelled_;
}

}  // namespace sentencekv
