#include "engine/engine_core.h"

#include <algorithm>
#include <string>
#include <utility>

#include "engine/request_usage.h"
#include "engine/sentence_reads.h"
#include "fmt/format.h"
#include "kernels/check.h"
#include "kernels/status_macros.h"
#include "spdlog/spdlog.h"

namespace sentencekv {
namespace {

SchedulerLimits LimitsOf(const LlmEngineOptions& options, const Model& model) {
  SchedulerLimits limits;
  limits.max_step_tokens =
      std::min(options.max_step_tokens, model.max_tokens_per_step());
  limits.max_step_logits = model.max_logits_per_step();
  limits.max_prefill_tokens_beside_decode =
      options.max_prefill_tokens_beside_decode;
  limits.max_running = options.max_running;
  return limits;
}

}  // namespace

EngineCore::EngineCore(const LlmEngineOptions& options,
                       int64_t max_request_tokens, const EngineParts& parts)
    : options_(options),
      max_request_tokens_(max_request_tokens),
      parts_(parts),
      scheduler_(LimitsOf(options, parts.model), parts.cache) {
  const KvLayout& layout = parts.cache.pool().layout();
  counts_.pages_total = layout.num_pages;
  counts_.page_tokens = kPageTokens;
  counts_.kv_bytes_per_page = layout.page_bytes() * layout.num_layers;
  Publish();
}

EngineCore::~EngineCore() {
  SKV_CHECK(scheduler_.running().empty() && scheduler_.waiting().empty());
}

bool EngineCore::Step() {
  const absl::Time started = parts_.clock.Now();
  now_ = started;
  ResetPrefixesIfAsked();
  TakeSubmissions();
  EndOverdue(started);
  const StepPlan plan = scheduler_.Plan();
  scheduler_.Commit(plan);
  const absl::Time planned = parts_.clock.Now();
  MarkScheduled(plan, planned);
  if (plan.shares.empty()) {
    // A request that took itself out for want of pages changes what comes next.
    const bool changed =
        num_ended_ > 0 || !plan.preempted.empty() || !plan.admitted.empty();
    Publish();
    return changed;
  }

  std::span<const float> logits;
  const absl::Status status = Forward(plan, &logits);
  now_ = parts_.clock.Now();
  StepStats times;
  times.plan_time = planned - started;
  times.forward_time = now_ - planned;
  const absl::Time computed = now_;
  if (status.ok()) {
    TakeLogits(plan, logits);
  } else {
    FailStep(plan, status);
  }
  ++counts_.steps;
  Publish();
  const absl::Time published = parts_.clock.Now();
  times.sample_time = published - computed;
  if (status.ok()) scheduler_.RecordStep(plan, published - started);
  Observe(plan, times);
  return true;
}

void EngineCore::TakeSubmissions() {
  for (Submission& submission : parts_.queue.TakeAll()) {
    counts_.prompt_tokens +=
        static_cast<int64_t>(submission.request.prompt.size());
    scheduler_.Add(std::make_unique<ActiveRequest>(
        std::move(submission), parts_.tokenizer, max_request_tokens_));
  }
}

void EngineCore::EndOverdue(absl::Time now) {
  std::vector<ActiveRequest*> all;
  for (const auto& request : scheduler_.running()) all.push_back(request.get());
  for (const auto& request : scheduler_.waiting()) all.push_back(request.get());
  for (ActiveRequest* request : all) {
    request->held_back = request->stream->full();
    if (!request->held_back) {
      request->held_since = absl::InfiniteFuture();
    } else if (request->held_since == absl::InfiniteFuture()) {
      request->held_since = now;
    }
    if (request->stream->cancelled()) {
      EndWith(request, FinishReason::kCancelled,
              absl::CancelledError("the request was cancelled"));
    } else if (request->request.deadline <= now) {
      EndWith(request, FinishReason::kDeadline,
              absl::DeadlineExceededError("the request's deadline has passed"));
    } else if (request->held_since + options_.outbox_timeout <= now) {
      EndWith(request, FinishReason::kError,
              absl::AbortedError(
                  fmt::format("the answer was not read for {}",
                              absl::FormatDuration(options_.outbox_timeout))));
    }
  }
}

absl::Time EngineCore::NextDeadline() const {
  absl::Time next = absl::InfiniteFuture();
  auto look_at = [&](const ActiveRequest& request) {
    next = std::min({next, request.request.deadline,
                     request.held_since + options_.outbox_timeout});
  };
  for (const auto& request : scheduler_.running()) look_at(*request);
  for (const auto& request : scheduler_.waiting()) look_at(*request);
  return next;
}

void EngineCore::ResetPrefixesIfAsked() {
  const std::vector<ResetCallback> asked = parts_.queue.TakeResets();
  if (asked.empty()) return;
  const int64_t dropped_tokens = parts_.cache.ResetPrefixes();
  // Who is told sees it in the counts.
  PublishCounts();
  for (const ResetCallback& done : asked) done(dropped_tokens);
}

void EngineCore::EndAll(const absl::Status& status) {
  now_ = parts_.clock.Now();
  TakeSubmissions();
  while (!scheduler_.running().empty()) {
    EndWith(scheduler_.running().back().get(), FinishReason::kCancelled,
            status);
  }
  while (!scheduler_.waiting().empty()) {
    EndWith(scheduler_.waiting().back().get(), FinishReason::kCancelled,
            status);
  }
  Publish();
}

absl::Status EngineCore::Forward(const StepPlan& plan,
                                 std::span<const float>* logits) {
  batch_.clear();
  for (const StepShare& share : plan.shares) {
    ActiveRequest& request = *share.request;
    SKV_RETURN_IF_ERROR(request.lease->Begin(request.tokens));
    ForwardSequence entry;
    entry.sequence = &request.lease->sequence();
    entry.policy = &request.lease->policy();
    entry.tokens = std::span<const int32_t>(request.tokens)
                       .subspan(request.num_computed(), share.num_tokens);
    entry.num_logits = share.num_logits;
    batch_.push_back(entry);
  }
  SKV_RETURN_IF_ERROR(
      parts_.model.Forward(batch_, parts_.cache.memory(), logits));
  for (const StepShare& share : plan.shares) {
    share.request->lease->Register(share.request->tokens);
  }
  return absl::OkStatus();
}

void EngineCore::MarkScheduled(const StepPlan& plan, absl::Time now) {
  for (ActiveRequest* request : plan.admitted) {
    // A preempted request was counted when it was admitted before.
    if (request->was_scheduled()) continue;
    request->first_scheduled = now;
    parts_.queue.LeaveWaiting(request->num_prompt());
    if (parts_.cache.Reuses(request->request.kv)) {
      counts_.prefix_query_tokens += request->num_prompt();
      counts_.prefix_hit_tokens += request->cached_tokens;
    }
  }
  counts_.preemptions += static_cast<int64_t>(plan.preempted.size());
}

void EngineCore::TakeLogits(const StepPlan& plan,
                            std::span<const float> logits) {
  const size_t vocab_size = static_cast<size_t>(parts_.model.info().vocab_size);
  size_t offset = 0;
  for (const StepShare& share : plan.shares) {
    const size_t size = static_cast<size_t>(share.num_logits) * vocab_size;
    SKV_CHECK(offset + size <= logits.size());
    if (size > 0) TakeRows(share, logits.subspan(offset, size));
    offset += size;
  }
}

void EngineCore::TakeRows(const StepShare& share, std::span<const float> rows) {
  ActiveRequest& request = *share.request;
  const size_t vocab_size = static_cast<size_t>(parts_.model.info().vocab_size);
  const absl::Status status = request.ScorePrompt(rows, vocab_size);
  if (!status.ok()) {
    EndWith(&request, FinishReason::kError, status);
    return;
  }
  if (request.num_missing() > 0) return;
  auto token = request.sampler.Sample(rows.last(vocab_size),
                                      request.answer.forbidden(), workspace_);
  if (!token.ok()) {
    EndWith(&request, FinishReason::kError, token.status());
    return;
  }
  AddToken(request, *std::move(token));
}

void EngineCore::FailStep(const StepPlan& plan, const absl::Status& status) {
  spdlog::error("a step of {} requests failed: {}", plan.shares.size(),
                status.ToString());
  for (const StepShare& share : plan.shares) {
    EndWith(share.request, FinishReason::kError, status);
  }
  if (absl::IsDataLoss(status) && options_.on_device_lost) {
    options_.on_device_lost(status);
  }
}

void EngineCore::AddToken(ActiveRequest& request, GeneratedToken token) {
  request.tokens.push_back(token.id);
  ++counts_.generated_tokens;
  StreamEvent event;
  std::optional<Finish> finish =
      request.answer.Append(std::move(token), &event);
  EngineObserver* observer = parts_.observer;
  if (request.first_token == absl::InfiniteFuture()) {
    request.first_token = now_;
    // A copy: how many there are says that all are scored.
    event.prompt_logprobs = request.prompt_logprobs;
    if (observer) observer->OnFirstToken(now_ - request.submitted);
  } else if (observer) {
    observer->OnInterToken(now_ - request.last_token);
  }
  request.last_token = now_;
  event.reads = TakeSentenceReads(request, parts_.tokenizer,
                                  /*close=*/finish.has_value());
  if (finish.has_value()) {
    End(&request, *std::move(finish), std::move(event));
  } else {
    outgoing_.push_back({request.stream, std::move(event)});
  }
}

void EngineCore::EndWith(ActiveRequest* request, FinishReason reason,
                         const absl::Status& status) {
  Finish finish;
  finish.reason = reason;
  finish.status = status;
  StreamEvent event;
  event.reads = TakeSentenceReads(*request, parts_.tokenizer, /*close=*/true);
  End(request, std::move(finish), std::move(event));
}

void EngineCore::End(ActiveRequest* request, Finish finish, StreamEvent event) {
  finish.usage = UsageOf(*request, now_);
  const std::unique_ptr<ActiveRequest> ended = scheduler_.Remove(request);
  if (!ended->was_scheduled()) parts_.queue.LeaveWaiting(ended->num_prompt());
  ended->answer.Close(&event);
  ++counts_.requests_finished;
  ++num_ended_;
  event.finish = std::move(finish);
  outgoing_.push_back({ended->stream, std::move(event)});
}

void EngineCore::PublishCounts() {
  const PagePoolStats pages = parts_.cache.stats();
  counts_.pages_free = pages.free;
  counts_.pages_cached = pages.cached;
  counts_.pages_used = pages.used;
  counts_.prefix_evictions = parts_.cache.pool().num_evictions();
  counts_.running = static_cast<int64_t>(scheduler_.running().size());
  counts_.sentence_index = {};
  for (const auto& request : scheduler_.running()) {
    const auto& state = request->lease->sequence().policy_state;
    if (state != nullptr) counts_.sentence_index += state->index_size();
  }
  parts_.cache.ReadTotalsByPolicy(&counts_.reads);
  counts_.device = parts_.cache.memory().transfers();
  counts_.graph_steps = parts_.cache.memory().backend().step_counts();
  absl::MutexLock lock(&stats_mutex_);
  stats_ = counts_;
}

void EngineCore::Publish() {
  PublishCounts();
  for (const Outgoing& outgoing : outgoing_) {
    if (!outgoing.event.finish.has_value()) continue;
    parts_.queue.ReleaseId(outgoing.stream->request_id());
    if (parts_.observer) parts_.observer->OnFinished(*outgoing.event.finish);
  }
  for (Outgoing& outgoing : outgoing_) {
    // Requests whose stream was full were not computed.
    SKV_CHECK(outgoing.stream->Push(std::move(outgoing.event)));
  }
  outgoing_.clear();
  parts_.queue.MarkEnded(std::exchange(num_ended_, 0));
}

void EngineCore::Observe(const StepPlan& plan, const StepStats& times) {
  if (parts_.observer == nullptr) return;
  StepStats step = times;
  step.prefill_tokens = plan.prefill_tokens;
  step.decode_tokens = plan.decode_tokens;
  step.sequences = static_cast<int64_t>(plan.shares.size());
  parts_.observer->OnStep(step, stats());
}

EngineStats EngineCore::stats() const {
  EngineStats stats;
  {
    absl::MutexLock lock(&stats_mutex_);
    stats = stats_;
  }
  // Those who wait are known before the engine thread has seen them.
  const RequestQueue::Counts counts = parts_.queue.counts();
  stats.waiting = counts.waiting;
  stats.waiting_tokens = counts.waiting_tokens;
  stats.draining = counts.draining;
  return stats;
}

}  // namespace sentencekv
