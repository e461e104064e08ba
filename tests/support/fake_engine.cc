#include "tests/support/fake_engine.h"

#include <algorithm>
#include <utility>

#include "fmt/format.h"

namespace sentencekv {

FakeEngine::FakeEngine(ModelInfo info)
    : info_(std::move(info)), max_request_tokens_(info_.context_length) {}

FakeEngine::~FakeEngine() { Stop(); }

ModelInfo FakeEngine::DefaultModelInfo() {
  ModelInfo info;
  info.name = "fake";
  info.architecture = "llama";
  info.quantization = "F32";
  info.num_layers = 2;
  info.num_heads = 4;
  info.num_kv_heads = 2;
  info.head_dim = 8;
  info.vocab_size = 260;
  info.context_length = 1024;
  return info;
}

StreamEvent FakeEngine::TextEvent(std::string text, std::vector<int32_t> ids) {
  StreamEvent event;
  event.text = std::move(text);
  for (const int32_t id : ids) {
    event.tokens.emplace_back();
    event.tokens.back().id = id;
  }
  return event;
}

StreamEvent FakeEngine::FinishEvent(FinishReason reason, Usage usage) {
  StreamEvent event;
  event.finish.emplace();
  event.finish->reason = reason;
  event.finish->usage = usage;
  switch (reason) {
    case FinishReason::kStop:
    case FinishReason::kLength:
      break;
    case FinishReason::kCancelled:
      event.finish->status = absl::CancelledError("the request was cancelled");
      break;
    case FinishReason::kDeadline:
      event.finish->status =
          absl::DeadlineExceededError("the request's deadline has passed");
      break;
    case FinishReason::kError:
      event.finish->status = absl::InternalError("the step failed");
      break;
  }
  return event;
}

void FakeEngine::set_max_request_tokens(int64_t tokens) {
  absl::MutexLock lock(&mutex_);
  max_request_tokens_ = tokens;
}

void FakeEngine::set_outbox_capacity(size_t capacity) {
  absl::MutexLock lock(&mutex_);
  outbox_capacity_ = capacity;
}

void FakeEngine::set_stats(const EngineStats& stats) {
  absl::MutexLock lock(&mutex_);
  stats_ = stats;
}

void FakeEngine::RefuseNext(absl::Status status) {
  absl::MutexLock lock(&mutex_);
  refusal_ = std::move(status);
}

void FakeEngine::AnswerWith(std::vector<StreamEvent> events) {
  absl::MutexLock lock(&mutex_);
  answer_ = std::move(events);
}

size_t FakeEngine::num_submitted() const {
  absl::MutexLock lock(&mutex_);
  return entries_.size();
}

bool FakeEngine::AwaitSubmitted(size_t index, absl::Duration timeout) const {
  absl::MutexLock lock(&mutex_);
  auto submitted = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return entries_.size() > index;
  };
  return mutex_.AwaitWithTimeout(absl::Condition(&submitted), timeout);
}

GenerateRequest FakeEngine::submitted(size_t index) const {
  absl::MutexLock lock(&mutex_);
  return entries_.at(index).request;
}

std::shared_ptr<TokenStream> FakeEngine::stream(size_t index) const {
  absl::MutexLock lock(&mutex_);
  return entries_.at(index).stream;
}

bool FakeEngine::Push(size_t index, StreamEvent event) {
  if (event.finish.has_value()) return End(index, std::move(event));
  std::shared_ptr<TokenStream> stream;
  {
    absl::MutexLock lock(&mutex_);
    Entry& entry = entries_.at(index);
    if (!entry.live) return false;
    stream = entry.stream;
    ++entry.num_pushing;
  }
  const bool taken = stream->Push(std::move(event));
  std::optional<StreamEvent> last;
  {
    absl::MutexLock lock(&mutex_);
    Entry& entry = entries_.at(index);
    if (--entry.num_pushing == 0)
      last = std::exchange(entry.last, std::nullopt);
  }
  if (last.has_value()) stream->Push(*std::move(last));
  return taken;
}

bool FakeEngine::Finish(size_t index, FinishReason reason) {
  return End(index, FinishEvent(reason));
}

bool FakeEngine::was_cancelled(size_t index) const {
  absl::MutexLock lock(&mutex_);
  return entries_.at(index).cancelled;
}

bool FakeEngine::is_live(size_t index) const {
  absl::MutexLock lock(&mutex_);
  return entries_.at(index).live;
}

size_t FakeEngine::num_live() const {
  absl::MutexLock lock(&mutex_);
  return std::count_if(entries_.begin(), entries_.end(),
                       [](const Entry& entry) { return entry.live; });
}

bool FakeEngine::draining() const {
  absl::MutexLock lock(&mutex_);
  return draining_;
}

bool FakeEngine::stopped() const {
  absl::MutexLock lock(&mutex_);
  return stopped_;
}

int64_t FakeEngine::max_request_tokens() const {
  absl::MutexLock lock(&mutex_);
  return max_request_tokens_;
}

absl::StatusOr<std::shared_ptr<TokenStream>> FakeEngine::Submit(
    GenerateRequest request) {
  std::shared_ptr<TokenStream> stream;
  std::vector<StreamEvent> answer;
  size_t index = 0;
  {
    absl::MutexLock lock(&mutex_);
    if (refusal_.has_value()) {
      const absl::Status refusal = *std::exchange(refusal_, std::nullopt);
      return refusal;
    }
    if (draining_) return absl::UnavailableError("the server is draining");
    index = entries_.size();
    if (request.request_id.empty()) {
      request.request_id = fmt::format("fake-{}", index);
    }
    for (const Entry& entry : entries_) {
      if (entry.live && entry.request.request_id == request.request_id) {
        return absl::AlreadyExistsError(fmt::format(
            "request_id: a live request has it: '{}'", request.request_id));
      }
    }
    stream = std::make_shared<TokenStream>(
        request.request_id, outbox_capacity_, [this, index] {
          if (this->stream(index)->cancelled()) {
            Finish(index, FinishReason::kCancelled);
          }
        });
    entries_.push_back({std::move(request), stream});
    answer = answer_;
  }
  for (StreamEvent& event : answer) Push(index, std::move(event));
  return stream;
}

absl::Status FakeEngine::Cancel(std::string_view request_id) {
  std::shared_ptr<TokenStream> stream;
  {
    absl::MutexLock lock(&mutex_);
    for (const Entry& entry : entries_) {
      if (entry.live && entry.request.request_id == request_id) {
        stream = entry.stream;
      }
    }
  }
  if (stream == nullptr) {
    return absl::NotFoundError(
        fmt::format("request_id: no live request has it: '{}'", request_id));
  }
  stream->Cancel();
  return absl::OkStatus();
}

void FakeEngine::DropOnReset(absl::StatusOr<int64_t> tokens) {
  absl::MutexLock lock(&mutex_);
  dropped_tokens_ = std::move(tokens);
}

void FakeEngine::ResetPrefixCache(
    std::function<void(absl::StatusOr<int64_t>)> done) {
  absl::StatusOr<int64_t> dropped;
  {
    absl::MutexLock lock(&mutex_);
    dropped = dropped_tokens_;
  }
  done(std::move(dropped));
}

EngineStats FakeEngine::stats() const {
  absl::MutexLock lock(&mutex_);
  return stats_;
}

void FakeEngine::BeginDrain() {
  absl::MutexLock lock(&mutex_);
  draining_ = true;
}

bool FakeEngine::AwaitIdle(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(this, &FakeEngine::IsIdle),
                                 timeout);
}

void FakeEngine::Stop() {
  BeginDrain();
  const size_t count = num_submitted();
  for (size_t index = 0; index < count; ++index) {
    Finish(index, FinishReason::kCancelled);
  }
  absl::MutexLock lock(&mutex_);
  stopped_ = true;
}

bool FakeEngine::End(size_t index, StreamEvent event) {
  std::shared_ptr<TokenStream> stream;
  {
    absl::MutexLock lock(&mutex_);
    Entry& entry = entries_.at(index);
    if (!entry.live) return false;
    entry.live = false;
    entry.cancelled = event.finish->reason == FinishReason::kCancelled;
    if (entry.num_pushing > 0) {
      entry.last = std::move(event);
      return true;
    }
    stream = entry.stream;
  }
  return stream->Push(std::move(event));
}

bool FakeEngine::IsIdle() const {
  return std::none_of(entries_.begin(), entries_.end(),
                      [](const Entry& entry) { return entry.live; });
}

}  // namespace sentencekv
