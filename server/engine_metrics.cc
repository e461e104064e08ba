#include "server/engine_metrics.h"

#include <utility>

#include "absl/time/clock.h"
#include "kernels/version.h"
#include "server/scrape_families.h"
#include "server/status_mapping.h"

namespace sentencekv {
namespace {

// Buckets that dashboards for inference servers expect, in seconds.
const std::vector<double> kFirstTokenBuckets = {
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640};
const std::vector<double> kInterTokenBuckets = {
    0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03,
    0.05,  0.075, 0.1,   0.15,  0.2,   0.3,  0.5,   1,    2.5};
const std::vector<double> kRequestBuckets = {0.3, 0.5, 0.8, 1,   1.5, 2,   2.5,
                                             5,   10,  15,  20,  30,  40,  50,
                                             60,  120, 240, 480, 960, 1920};
// A step's phases: planning takes microseconds, a forward pass up to seconds.
const std::vector<double> kStepBuckets = {
    0.00001, 0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
    0.05,    0.1,    0.25,   0.5,   1,      2.5,   5,    10};

// 1, 2, 5, 10, 20, ... up to the first that is at least `maximum`.
std::vector<double> OneTwoFiveSeries(int64_t maximum) {
  std::vector<double> series;
  for (int64_t decade = 1;; decade *= 10) {
    for (const int64_t factor : {1, 2, 5}) {
      series.push_back(static_cast<double>(decade * factor));
      if (decade * factor >= maximum) return series;
    }
  }
}

constexpr int64_t kLargestStep = 50000;
constexpr int64_t kLargestBatch = 1000;

double Seconds(absl::Duration duration) {
  return absl::ToDoubleSeconds(duration);
}

template <size_t N>
size_t Index(auto value, const std::array<prometheus::Counter*, N>&) {
  const size_t index = static_cast<size_t>(value);
  return index < N ? index : N - 1;
}

}  // namespace

std::string_view Name(RpcMethod method) {
  switch (method) {
    case RpcMethod::kGenerate:
      return "Generate";
    case RpcMethod::kTokenize:
      return "Tokenize";
    case RpcMethod::kDetokenize:
      return "Detokenize";
    case RpcMethod::kGetModel:
      return "GetModel";
    case RpcMethod::kGetStats:
      return "GetStats";
    case RpcMethod::kCancel:
      return "Cancel";
    case RpcMethod::kResetCache:
      return "ResetCache";
  }
  return "";
}

prometheus::Counter& EngineMetrics::MakeCounter(
    const char* name, const char* help,
    std::map<std::string, std::string> labels) {
  // Register gives the family that already has this name and these labels.
  return prometheus::BuildCounter()
      .Name(name)
      .Help(help)
      .Labels({{"model_name", model_name_}})
      .Register(registry_)
      .Add(labels);
}

prometheus::Histogram& EngineMetrics::MakeHistogram(
    const char* name, const char* help, std::vector<double> buckets,
    std::map<std::string, std::string> labels) {
  return prometheus::BuildHistogram()
      .Name(name)
      .Help(help)
      .Labels({{"model_name", model_name_}})
      .Register(registry_)
      .Add(labels, std::move(buckets));
}

EngineMetrics::EngineMetrics(std::string model_name, const ModelInfo& info,
                             std::string backend)
    : model_name_(std::move(model_name)),
      started_(absl::Now()),
      cached_tokens_(MakeCounter("sentencekv_cached_tokens_total",
                                 "Prompt tokens whose K and V were reused",
                                 {})),
      first_token_seconds_(MakeHistogram(
          "sentencekv_time_to_first_token_seconds",
          "From submission to the first token", kFirstTokenBuckets)),
      inter_token_seconds_(MakeHistogram(
          "sentencekv_inter_token_latency_seconds",
          "Between one token and the next of a request", kInterTokenBuckets)),
      queue_seconds_(MakeHistogram("sentencekv_queue_seconds",
                                   "From submission to the first step",
                                   kFirstTokenBuckets)),
      prefill_seconds_(MakeHistogram("sentencekv_prefill_seconds",
                                     "From the first step to the first token",
                                     kFirstTokenBuckets)),
      request_seconds_(MakeHistogram("sentencekv_request_seconds",
                                     "From submission to the end",
                                     kRequestBuckets)),
      request_prompt_tokens_(MakeHistogram(
          "sentencekv_request_prompt_tokens", "Prompt tokens of a request",
          OneTwoFiveSeries(info.context_length))),
      request_generated_tokens_(
          MakeHistogram("sentencekv_request_generated_tokens",
                        "Generated tokens of a request",
                        OneTwoFiveSeries(info.context_length))),
      step_sequences_(MakeHistogram("sentencekv_step_sequences",
                                    "Sequences in an engine step",
                                    OneTwoFiveSeries(kLargestBatch))),
      step_tokens_prefill_(MakeHistogram(
          "sentencekv_step_tokens", "Tokens in an engine step by kind",
          OneTwoFiveSeries(kLargestStep), {{"kind", "prefill"}})),
      step_tokens_decode_(MakeHistogram(
          "sentencekv_step_tokens", "Tokens in an engine step by kind",
          OneTwoFiveSeries(kLargestStep), {{"kind", "decode"}})),
      step_seconds_plan_(MakeHistogram("sentencekv_step_seconds",
                                       "Time of an engine step by phase",
                                       kStepBuckets, {{"phase", "plan"}})),
      step_seconds_forward_(MakeHistogram(
          "sentencekv_step_seconds", "Time of an engine step by phase",
          kStepBuckets, {{"phase", "forward"}})),
      step_seconds_sample_(MakeHistogram("sentencekv_step_seconds",
                                         "Time of an engine step by phase",
                                         kStepBuckets, {{"phase", "sample"}})) {
  for (size_t i = 0; i < finished_.size(); ++i)
    finished_[i] = &MakeCounter(
        "sentencekv_requests_finished_total", "Requests ended, by reason",
        {{"reason", std::string(Name(static_cast<FinishReason>(i)))}});
  for (size_t i = 0; i < refused_.size(); ++i)
    refused_[i] = &MakeCounter(
        "sentencekv_requests_refused_total",
        "Requests that the engine refused, by reason",
        {{"reason", std::string(Name(static_cast<RefusalReason>(i)))}});
  prometheus::BuildGauge()
      .Name("sentencekv_build_info")
      .Help("Version of the server; always 1")
      .Register(registry_)
      .Add({{"version", kVersion}})
      .Set(1);
  prometheus::BuildGauge()
      .Name("sentencekv_model_info")
      .Help("What is served and by what; always 1")
      .Register(registry_)
      .Add({{"model_name", model_name_},
            {"architecture", info.architecture},
            {"quantization", info.quantization},
            {"parameters", std::to_string(info.num_parameters)},
            {"context_length", std::to_string(info.context_length)},
            {"backend", backend}})
      .Set(1);
}

void EngineMetrics::SetStatsSource(std::function<EngineStats()> source) {
  absl::MutexLock lock(&mutex_);
  stats_source_ = std::move(source);
}

void EngineMetrics::OnRefused(RefusalReason reason) {
  refused_[Index(reason, refused_)]->Increment();
}

void EngineMetrics::OnFirstToken(absl::Duration since_submitted) {
  first_token_seconds_.Observe(Seconds(since_submitted));
}

void EngineMetrics::OnInterToken(absl::Duration since_previous) {
  inter_token_seconds_.Observe(Seconds(since_previous));
}

void EngineMetrics::OnFinished(const Finish& finish) {
  finished_[Index(finish.reason, finished_)]->Increment();
  const Usage& usage = finish.usage;
  cached_tokens_.Increment(static_cast<double>(usage.cached_tokens));
  queue_seconds_.Observe(Seconds(usage.queue_time));
  request_seconds_.Observe(Seconds(usage.total_time));
  request_prompt_tokens_.Observe(static_cast<double>(usage.prompt_tokens));
  request_generated_tokens_.Observe(
      static_cast<double>(usage.generated_tokens));
  // A request that ended in the queue or in prefill has no such time.
  if (usage.generated_tokens > 0)
    prefill_seconds_.Observe(Seconds(usage.prefill_time));
}

void EngineMetrics::OnStep(const StepStats& step, const EngineStats&) {
  step_sequences_.Observe(static_cast<double>(step.sequences));
  step_tokens_prefill_.Observe(static_cast<double>(step.prefill_tokens));
  step_tokens_decode_.Observe(static_cast<double>(step.decode_tokens));
  step_seconds_plan_.Observe(Seconds(step.plan_time));
  step_seconds_forward_.Observe(Seconds(step.forward_time));
  step_seconds_sample_.Observe(Seconds(step.sample_time));
}

void EngineMetrics::OnRpc(RpcMethod method, grpc::StatusCode code) {
  absl::MutexLock lock(&mutex_);
  auto& counters = rpcs_[static_cast<size_t>(method)];
  prometheus::Counter*& counter = counters[Index(code, counters)];
  if (counter == nullptr) {
    counter = &MakeCounter("sentencekv_rpcs_total",
                           "Calls ended, by method and gRPC status code",
                           {{"method", std::string(Name(method))},
                            {"code", std::string(Name(code))}});
  }
  counter->Increment();
}

std::vector<prometheus::MetricFamily> EngineMetrics::Collect() const {
  std::vector<prometheus::MetricFamily> families = registry_.Collect();
  std::function<EngineStats()> source;
  {
    absl::MutexLock lock(&mutex_);
    source = stats_source_;
    if (source) AppendEngineFamilies(source(), model_name_, &families);
  }
  AppendProcessFamilies(absl::Now() - started_, &families);
  AppendAliases(&families);
  return families;
}

}  // namespace sentencekv
