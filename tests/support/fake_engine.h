// An engine without a model: a test says what each request is answered.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/engine.h"

namespace sentencekv {

// Thread-safe. Honours Engine's contract for ids, drain, cancel and stop; has
// no thread of its own: events come from Submit (see AnswerWith) or from the
// test (see Push, Finish). A request that the reader or Cancel ends finishes
// at once with kCancelled.
class FakeEngine final : public Engine {
 public:
  explicit FakeEngine(ModelInfo info = DefaultModelInfo());
  ~FakeEngine() override;

  // A tiny model with ByteTokenizer's 260 tokens and a context of 1024.
  static ModelInfo DefaultModelInfo();
  // One event with this text and these tokens.
  static StreamEvent TextEvent(std::string text, std::vector<int32_t> ids);
  // One event that ends a stream; its status follows from the reason.
  static StreamEvent FinishEvent(FinishReason reason, Usage usage = {});

  // --- script ---

  void set_max_request_tokens(int64_t tokens);
  void set_outbox_capacity(size_t capacity);
  void set_stats(const EngineStats& stats);
  // What ResetPrefixCache answers.
  void DropOnReset(absl::StatusOr<int64_t> tokens);
  // The next Submit fails with `status`.
  void RefuseNext(absl::Status status);
  // From now on Submit answers each request with these events at once. The
  // last should carry a Finish; without one the request stays live. An empty
  // list, the state at the start, leaves answers to Push.
  void AnswerWith(std::vector<StreamEvent> events);

  // --- what came, in the order of Submit, refused ones left out ---

  size_t num_submitted() const;
  // Blocks until request `index` was submitted; false after `timeout`.
  bool AwaitSubmitted(size_t index, absl::Duration timeout) const;
  GenerateRequest submitted(size_t index) const;
  std::shared_ptr<TokenStream> stream(size_t index) const;
  // Answers request `index`. False when its outbox is full or it has ended.
  bool Push(size_t index, StreamEvent event);
  bool Finish(size_t index, FinishReason reason);
  // Whether request `index` was ended with kCancelled.
  bool was_cancelled(size_t index) const;
  // Not ended yet.
  bool is_live(size_t index) const;
  size_t num_live() const;
  bool draining() const;
  bool stopped() const;

  // --- Engine ---

  const ModelInfo& model_info() const override { return info_; }
  int64_t max_request_tokens() const override;
  absl::StatusOr<std::shared_ptr<TokenStream>> Submit(
      GenerateRequest request) override;
  absl::Status Cancel(std::string_view request_id) override;
  // Answers at once with what DropOnReset said, 0 at first.
  void ResetPrefixCache(
      std::function<void(absl::StatusOr<int64_t>)> done) override;
  EngineStats stats() const override;
  void BeginDrain() override;
  // Real time: there is no clock here.
  bool AwaitIdle(absl::Duration timeout) override;
  void Stop() override;

 private:
  struct Entry {
    GenerateRequest request;
    std::shared_ptr<TokenStream> stream;
    bool live = true;
    bool cancelled = false;
    // An end that comes, from the reader's thread, while others push: the last
    // of them pushes it, as nothing may follow it.
    int num_pushing = 0;
    std::optional<StreamEvent> last;
  };

  // Ends request `index` if it is live; the push happens outside the lock.
  bool End(size_t index, StreamEvent event);
  bool IsIdle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ModelInfo info_;
  mutable absl::Mutex mutex_;
  int64_t max_request_tokens_ ABSL_GUARDED_BY(mutex_);
  size_t outbox_capacity_ ABSL_GUARDED_BY(mutex_) = 256;
  EngineStats stats_ ABSL_GUARDED_BY(mutex_);
  absl::StatusOr<int64_t> dropped_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<absl::Status> refusal_ ABSL_GUARDED_BY(mutex_);
  std::vector<StreamEvent> answer_ ABSL_GUARDED_BY(mutex_);
  std::vector<Entry> entries_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sentencekv
