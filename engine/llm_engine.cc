#include "engine/llm_engine.h"

#include <algorithm>
#include <atomic>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "cache/kv_cache.h"
#include "engine/engine_core.h"
#include "engine/random_stream.h"
#include "engine/request_queue.h"
#include "engine/request_validation.h"
#include "fmt/format.h"
#include "kernels/status_macros.h"
#include "spdlog/spdlog.h"

namespace sentencekv {
namespace {

struct OptionBound {
  const char* field;
  int64_t value;
  int64_t low;
};

absl::Status ValidateOptions(const LlmEngineOptions& options,
                             const Model& model, const PagePool& pool) {
  const OptionBound bounds[] = {
      {"max_step_tokens", options.max_step_tokens, 2},
      {"max_prefill_tokens_beside_decode",
       options.max_prefill_tokens_beside_decode, 1},
      {"max_running", options.max_running, 1},
      {"max_waiting", options.max_waiting, 1},
      {"max_waiting_tokens", options.max_waiting_tokens, 1},
      {"outbox_capacity", static_cast<int64_t>(options.outbox_capacity), 1},
      {"model.max_tokens_per_step", model.max_tokens_per_step(), 2},
      {"model.max_logits_per_step", model.max_logits_per_step(), 2},
      {"model.context_length", model.info().context_length, 2},
      {"pool.num_pages", pool.layout().num_pages, 1},
  };
  for (const OptionBound& bound : bounds) {
    if (bound.value < bound.low) {
      return absl::InvalidArgumentError(
          fmt::format("engine options: {} must be at least {}, got {}",
                      bound.field, bound.low, bound.value));
    }
  }
  // Room for a prompt token and one of the answer.
  if (options.max_request_tokens != 0 && options.max_request_tokens < 2) {
    return absl::InvalidArgumentError(
        fmt::format("engine options: max_request_tokens must be 0 or at least "
                    "2, got {}",
                    options.max_request_tokens));
  }
  if (options.outbox_timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        fmt::format("engine options: outbox_timeout must be positive, got {}",
                    absl::FormatDuration(options.outbox_timeout)));
  }
  return absl::OkStatus();
}

int64_t MaxRequestTokens(const LlmEngineOptions& options, const Model& model,
                         const PagePool& pool) {
  const int64_t possible = std::min(model.info().context_length,
                                    pool.layout().num_pages * kPageTokens);
  return options.max_request_tokens == 0
             ? possible
             : std::min(possible, options.max_request_tokens);
}

RequestQueueLimits QueueLimits(const LlmEngineOptions& options) {
  return {options.max_waiting, options.max_waiting_tokens,
          options.outbox_capacity};
}

class LlmEngine final : public Engine {
 public:
  LlmEngine(const LlmEngineOptions& options, Model& model,
            const Tokenizer& tokenizer, std::unique_ptr<KvCache> cache,
            const Clock& clock, EngineObserver* observer)
      : model_(model),
        observer_(observer),
        cache_(std::move(cache)),
        max_request_tokens_(MaxRequestTokens(options, model, cache_->pool())),
        seed_key_((uint64_t{std::random_device()()} << 32) |
                  std::random_device()()),
        queue_(std::make_shared<RequestQueue>(QueueLimits(options), clock)),
        core_(options, max_request_tokens_,
              {model, tokenizer, *cache_, clock, *queue_, observer}),
        thread_([this] { Run(); }) {}

  ~LlmEngine() override { Stop(); }

  const ModelInfo& model_info() const override { return model_.info(); }
  int64_t max_request_tokens() const override { return max_request_tokens_; }

  absl::StatusOr<std::shared_ptr<TokenStream>> Submit(
      GenerateRequest request) override {
    RefusalReason reason = RefusalReason::kInvalid;
    auto stream = TrySubmit(std::move(request), &reason);
    if (!stream.ok() && observer_ != nullptr) observer_->OnRefused(reason);
    return stream;
  }

  absl::Status Cancel(std::string_view request_id) override {
    return queue_->Cancel(request_id);
  }
  void ResetPrefixCache(
      std::function<void(absl::StatusOr<int64_t>)> done) override {
    queue_->PushReset(std::move(done));
  }
  EngineStats stats() const override { return core_.stats(); }
  void BeginDrain() override { queue_->BeginDrain(); }
  bool AwaitIdle(absl::Duration timeout) override {
    return queue_->AwaitIdle(timeout);
  }
  void Stop() override {
    queue_->RequestStop();
    absl::MutexLock lock(&join_mutex_);
    if (thread_.joinable()) thread_.join();
  }

 private:
  absl::StatusOr<std::shared_ptr<TokenStream>> TrySubmit(
      GenerateRequest request, RefusalReason* reason) {
    const RequestLimits limits = {model_.info().vocab_size,
                                  max_request_tokens_};
    if (absl::Status status = ValidatePromptLength(request, limits);
        !status.ok()) {
      *reason = RefusalReason::kTooLong;
      return status;
    }
    *reason = RefusalReason::kInvalid;
    SKV_RETURN_IF_ERROR(ValidateRequest(request, limits));
    SKV_RETURN_IF_ERROR(cache_->Validate(request.kv));
    if (!request.sampling.seed.has_value()) {
      request.sampling.seed = RandomBits(seed_key_, num_seeds_++);
    }
    return queue_->Push(std::move(request), reason);
  }

  // The engine thread.
  void Run() {
    while (!queue_->stop_requested()) {
      if (!core_.Step()) queue_->WaitForWork(core_.NextDeadline());
    }
    core_.EndAll(absl::CancelledError("the server stopped"));
  }

  Model& model_;
  EngineObserver* const observer_;
  const std::unique_ptr<KvCache> cache_;
  const int64_t max_request_tokens_;
  const uint64_t seed_key_;  // seeds of requests that bring none
  std::atomic<uint64_t> num_seeds_ = 0;
  const std::shared_ptr<RequestQueue> queue_;
  EngineCore core_;
  absl::Mutex join_mutex_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> MakeLlmEngine(
    const LlmEngineOptions& options, Model& model, const Tokenizer& tokenizer,
    KvMemory& memory, const Clock& clock, EngineObserver* observer) {
  SKV_RETURN_IF_ERROR(ValidateOptions(options, model, memory.pool()));
  const ModelInfo& info = model.info();
  const KvPolicyContext context = {.tokenizer = &tokenizer,
                                   .shape = {.num_layers = info.num_layers,
                                             .num_heads = info.num_heads,
                                             .num_kv_heads = info.num_kv_heads,
                                             .head_dim = info.head_dim}};
  SKV_ASSIGN_OR_RETURN(
      std::unique_ptr<KvCache> cache,
      KvCache::Create(memory, options.default_kv_policy, context,
                      {.enabled = options.prefix_cache}));
  spdlog::info("engine: {} on {}, {} pages of {} tokens, kv policy {}",
               info.name, memory.backend().description(),
               memory.pool().layout().num_pages, kPageTokens,
               options.default_kv_policy);
  return std::make_unique<LlmEngine>(options, model, tokenizer,
                                     std::move(cache), clock, observer);
}

}  // namespace sentencekv
