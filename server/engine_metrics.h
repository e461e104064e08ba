// Prometheus metrics of the engine and the RPCs. Names and buckets are listed
// in docs/operations.md.
//
// Two kinds: counters and histograms, updated as things happen, and everything
// that the engine counts itself, read when somebody scrapes. The aliases under
// the names of vLLM, which routers and autoscalers read, are made of both at
// the scrape too, so that they cost the engine thread nothing.
#pragma once

#include <grpcpp/support/status.h>
#include <prometheus/collectable.h>
#include <prometheus/counter.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <array>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/engine_observer.h"
#include "engine/model.h"

namespace sentencekv {

enum class RpcMethod : uint8_t {
  kGenerate,
  kTokenize,
  kDetokenize,
  kGetModel,
  kGetStats,
  kCancel,
  kResetCache
};
std::string_view Name(RpcMethod method);

// Thread-safe. Shared with the exposer, which holds it weakly.
class EngineMetrics final : public EngineObserver,
                            public prometheus::Collectable {
 public:
  // `model_name` is the label of every metric; `backend` goes to model_info.
  EngineMetrics(std::string model_name, const ModelInfo& info,
                std::string backend);

  // Where running, waiting, pages and totals are read at a scrape; null stops
  // that. Must be unset before the engine goes away.
  void SetStatsSource(std::function<EngineStats()> source);

  // EngineObserver
  void OnRefused(RefusalReason reason) override;
  void OnFirstToken(absl::Duration since_submitted) override;
  void OnInterToken(absl::Duration since_previous) override;
  void OnFinished(const Finish& finish) override;
  void OnStep(const StepStats& step, const EngineStats& stats) override;

  // One RPC ended.
  void OnRpc(RpcMethod method, grpc::StatusCode code);

  // prometheus::Collectable
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  // One more than the last enumerator.
  static constexpr size_t kNumFinishReasons =
      static_cast<size_t>(FinishReason::kError) + 1;
  static constexpr size_t kNumRefusalReasons =
      static_cast<size_t>(RefusalReason::kDuplicateId) + 1;
  static constexpr size_t kNumRpcMethods =
      static_cast<size_t>(RpcMethod::kResetCache) + 1;
  static constexpr size_t kNumStatusCodes = 17;

  prometheus::Counter& MakeCounter(const char* name, const char* help,
                                   std::map<std::string, std::string> labels);
  prometheus::Histogram& MakeHistogram(
      const char* name, const char* help, std::vector<double> buckets,
      std::map<std::string, std::string> labels = {});

  const std::string model_name_;
  const absl::Time started_;
  prometheus::Registry registry_;

  std::array<prometheus::Counter*, kNumFinishReasons> finished_;
  std::array<prometheus::Counter*, kNumRefusalReasons> refused_;
  // [method][code]; null until the first such call, so that a scrape lists
  // only what has happened.
  std::array<std::array<prometheus::Counter*, kNumStatusCodes>, kNumRpcMethods>
      rpcs_ ABSL_GUARDED_BY(mutex_) = {};
  prometheus::Counter& cached_tokens_;
  prometheus::Histogram& first_token_seconds_;
  prometheus::Histogram& inter_token_seconds_;
  prometheus::Histogram& queue_seconds_;
  prometheus::Histogram& prefill_seconds_;
  prometheus::Histogram& request_seconds_;
  prometheus::Histogram& request_prompt_tokens_;
  prometheus::Histogram& request_generated_tokens_;
  prometheus::Histogram& step_sequences_;
  prometheus::Histogram& step_tokens_prefill_;
  prometheus::Histogram& step_tokens_decode_;
  prometheus::Histogram& step_seconds_plan_;
  prometheus::Histogram& step_seconds_forward_;
  prometheus::Histogram& step_seconds_sample_;

  mutable absl::Mutex mutex_;
  std::function<EngineStats()> stats_source_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sentencekv
