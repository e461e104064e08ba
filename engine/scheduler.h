// Decides what each step computes, and holds the requests that wait or run.
//
// Plan is bookkeeping on numbers and touches no request and no page; Commit
// does what a plan says: takes pages away, admits, reserves. docs/scheduling.md
// has the rules and their reasons. In short:
//  1. Every decoding request gets its one token, those first that have waited
//     longest when not all fit in a step.
//  2. When pages run out, the youngest running request is preempted: the oldest
//     one always goes on, so something always does.
//  3. Requests are admitted in order of arrival, when pages for all of their
//     tokens are free and one more for each running request. They begin with
//     what the prefix cache has of their tokens.
//  4. Prompts share what is left: half to the oldest, the rest to the shortest.
//  5. A request whose reader lags is left out.
// Engine thread only.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "absl/time/time.h"
#include "cache/kv_cache.h"
#include "engine/active_request.h"
#include "engine/prefill_budget.h"

namespace sentencekv {

struct SchedulerLimits {
  int64_t max_step_tokens = 0;                   // at least 2
  int64_t max_step_logits = 0;                   // at least 2
  int64_t max_prefill_tokens_beside_decode = 0;  // at least 1
  int64_t max_running = 0;                       // at least 1
};

// One request's part of a step.
struct StepShare {
  ActiveRequest* request = nullptr;
  int64_t num_tokens = 0;
  int64_t num_logits = 0;
  bool decode = false;
};

struct StepPlan {
  std::vector<ActiveRequest*> preempted;  // youngest first
  std::vector<ActiveRequest*> admitted;   // oldest first
  std::vector<PrefixMatch> matches;       // what each admitted one reuses
  std::vector<StepShare> shares;          // decoding ones first
  int64_t decode_tokens = 0;
  int64_t prefill_tokens = 0;
  double mean_prefill_position = 0;
};

class Scheduler {
 public:
  // `cache` must outlive the scheduler.
  Scheduler(const SchedulerLimits& limits, KvCache& cache);

  void Add(std::unique_ptr<ActiveRequest> request);
  // Gives a request back, and its pages to the pool.
  std::unique_ptr<ActiveRequest> Remove(ActiveRequest* request);

  StepPlan Plan();
  // REQUIRES: nothing changed since `plan` was made.
  void Commit(const StepPlan& plan);
  // Learns how long a committed plan took.
  void RecordStep(const StepPlan& plan, absl::Duration time);

  // Both in order of arrival.
  const std::vector<std::unique_ptr<ActiveRequest>>& running() const {
    return running_;
  }
  const std::deque<std::unique_ptr<ActiveRequest>>& waiting() const {
    return waiting_;
  }

 private:
  // What Plan has decided so far.
  struct Draft;
  // A request that prefills, and the positions it does not compute.
  struct Prompt;

  void PlanDecode(Draft& draft) const;
  void PlanAdmission(Draft& draft) const;
  // What `request` would reuse, and the free pages that its admission takes, at
  // most `free_pages` if that is possible.
  PrefixMatch MatchPrefix(const ActiveRequest& request, int64_t free_pages,
                          int64_t* wanted) const;
  void PlanPrefill(Draft& draft);
  // Frees pages in the draft until `missing` are free, for `request`; false
  // when it was preempted itself.
  bool MakeRoom(Draft& draft, const ActiveRequest& request,
                int64_t missing) const;
  // Those that prefill in this step, in order of arrival.
  std::vector<Prompt> PromptsOf(const Draft& draft) const;
  // Adds up to `count` of the prompt's missing tokens to the plan, as far as
  // tokens and logits of the step allow.
  int64_t AddPrefill(Draft& draft, const Prompt& prompt, int64_t count) const;

  const SchedulerLimits limits_;
  KvCache& cache_;
  PrefillBudget prefill_budget_;
  std::vector<std::unique_ptr<ActiveRequest>> running_;
  std::deque<std::unique_ptr<ActiveRequest>> waiting_;
  int64_t step_ = 0;
};

}  // namespace sentencekv
