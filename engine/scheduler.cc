#include "engine/scheduler.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "kernels/check.h"

namespace sentencekv {
namespace {

// Prompt tokens that decoding leaves room for when it could fill a step.
constexpr int64_t kPrefillReserve = 16;

template <typename Container>
void InsertByArrival(Container& container,
                     std::unique_ptr<ActiveRequest> request) {
  const auto place = std::find_if(
      container.begin(), container.end(),
      [&](const auto& other) { return other->arrival > request->arrival; });
  container.insert(place, std::move(request));
}

template <typename Container>
std::unique_ptr<ActiveRequest> TakeOut(Container& container,
                                       const ActiveRequest* request) {
  const auto place =
      std::find_if(container.begin(), container.end(),
                   [&](const auto& other) { return other.get() == request; });
  if (place == container.end()) return nullptr;
  std::unique_ptr<ActiveRequest> taken = std::move(*place);
  container.erase(place);
  return taken;
}

bool Contains(const std::vector<ActiveRequest*>& list,
              const ActiveRequest* request) {
  return std::find(list.begin(), list.end(), request) != list.end();
}

}  // namespace

struct Scheduler::Draft {
  StepPlan plan;
  int64_t free_pages = 0;
  int64_t tokens_left = 0;
  int64_t logits_left = 0;
  // References that the preempted give up, by page.
  std::unordered_map<int32_t, int32_t> released;
};

struct Scheduler::Prompt {
  ActiveRequest* request = nullptr;
  int64_t begin = 0;    // tokens that are in the cache
  int64_t missing = 0;  // tokens from there on
};

Scheduler::Scheduler(const SchedulerLimits& limits, KvCache& cache)
    : limits_(limits),
      cache_(cache),
      prefill_budget_(limits.max_prefill_tokens_beside_decode) {
  SKV_CHECK(limits.max_step_tokens >= 2 && limits.max_step_logits >= 2);
  SKV_CHECK(limits.max_running >= 1);
}

void Scheduler::Add(std::unique_ptr<ActiveRequest> request) {
  InsertByArrival(waiting_, std::move(request));
}

std::unique_ptr<ActiveRequest> Scheduler::Remove(ActiveRequest* request) {
  std::unique_ptr<ActiveRequest> taken = TakeOut(running_, request);
  if (taken == nullptr) taken = TakeOut(waiting_, request);
  SKV_CHECK(taken != nullptr);
  taken->lease.reset();
  return taken;
}

StepPlan Scheduler::Plan() {
  Draft draft;
  draft.free_pages = cache_.stats().free;
  draft.tokens_left = limits_.max_step_tokens;
  draft.logits_left = limits_.max_step_logits;
  PlanDecode(draft);
  PlanAdmission(draft);
  PlanPrefill(draft);
  return std::move(draft.plan);
}

void Scheduler::PlanDecode(Draft& draft) const {
  std::vector<ActiveRequest*> decoding;
  bool prefill_wanted = !waiting_.empty();
  for (const auto& request : running_) {
    if (request->held_back) continue;
    if (request->decoding()) {
      decoding.push_back(request.get());
    } else {
      prefill_wanted = true;
    }
  }
  // When not all fit, those that were computed longest ago come first.
  int64_t limit = std::min(draft.tokens_left, draft.logits_left);
  if (prefill_wanted) {
    const int64_t reserve =
        std::clamp<int64_t>(draft.tokens_left / 4, 1, kPrefillReserve);
    limit = std::min(draft.tokens_left - reserve, draft.logits_left - 1);
  }
  if (static_cast<int64_t>(decoding.size()) > limit) {
    std::stable_sort(decoding.begin(), decoding.end(),
                     [](const ActiveRequest* a, const ActiveRequest* b) {
                       return a->last_step < b->last_step;
                     });
    decoding.resize(limit);
    std::sort(decoding.begin(), decoding.end(),
              [](const ActiveRequest* a, const ActiveRequest* b) {
                return a->arrival < b->arrival;
              });
  }
  // Oldest first: whoever is preempted to make room is younger than all that
  // have got their page.
  for (ActiveRequest* request : decoding) {
    if (Contains(draft.plan.preempted, request)) continue;
    const int64_t missing =
        request->lease->PagesMissing(request->num_computed() + 1);
    if (!MakeRoom(draft, *request, missing)) continue;
    draft.free_pages -= missing;
    draft.plan.shares.push_back({request, 1, 1, /*decode=*/true});
    ++draft.plan.decode_tokens;
  }
  draft.tokens_left -= draft.plan.decode_tokens;
  draft.logits_left -= draft.plan.decode_tokens;
}

bool Scheduler::MakeRoom(Draft& draft, const ActiveRequest& request,
                         int64_t missing) const {
  for (auto victim = running_.rbegin(); draft.free_pages < missing; ++victim) {
    SKV_CHECK(victim != running_.rend());
    if (Contains(draft.plan.preempted, victim->get())) continue;
    draft.plan.preempted.push_back(victim->get());
    const SequenceLease& lease = *(*victim)->lease;
    draft.free_pages += lease.num_promised();
    // A page that others hold too is free with the last of them.
    for (const int32_t page : lease.HeldPages()) {
      if (++draft.released[page] == cache_.pool().references(page)) {
        ++draft.free_pages;
      }
    }
    if (victim->get() == &request) return false;
  }
  return true;
}

void Scheduler::PlanAdmission(Draft& draft) const {
  // Pages that were just taken from someone are not for newcomers.
  if (!draft.plan.preempted.empty()) return;
  int64_t num_running = static_cast<int64_t>(running_.size());
  for (const auto& request : waiting_) {
    if (num_running >= limits_.max_running) return;
    if (request->held_back) continue;
    // Each running request may want a page soon; without a margin the newcomer
    // would be preempted at once.
    const int64_t available = draft.free_pages - num_running;
    int64_t wanted = 0;
    PrefixMatch match = MatchPrefix(*request, available, &wanted);
    // Those behind must not overtake it for ever: nobody is looked at further.
    if (available < wanted) return;
    draft.free_pages -= wanted;
    draft.plan.admitted.push_back(request.get());
    draft.plan.matches.push_back(std::move(match));
    ++num_running;
  }
}

PrefixMatch Scheduler::MatchPrefix(const ActiveRequest& request,
                                   int64_t free_pages, int64_t* wanted) const {
  PrefixMatch match =
      cache_.Match(request.request.kv, request.tokens,
                   request.num_read_as_prompt(), request.max_reusable());
  *wanted = cache_.PagesWanted(match, request.num_tokens());
  if (*wanted > free_pages && match.copies_last()) {
    // A copy takes a page beside its source, which the pool may not have.
    match.DropCopy();
    *wanted = cache_.PagesWanted(match, request.num_tokens());
  }
  return match;
}

std::vector<Scheduler::Prompt> Scheduler::PromptsOf(const Draft& draft) const {
  std::vector<Prompt> prompts;
  for (const auto& request : running_) {
    if (request->held_back || request->decoding()) continue;
    if (Contains(draft.plan.preempted, request.get())) continue;
    prompts.push_back(
        {request.get(), request->num_computed(), request->num_missing()});
  }
  for (size_t i = 0; i < draft.plan.admitted.size(); ++i) {
    ActiveRequest* const request = draft.plan.admitted[i];
    const int64_t reused = draft.plan.matches[i].num_tokens;
    prompts.push_back({request, reused, request->num_tokens() - reused});
  }
  std::sort(prompts.begin(), prompts.end(),
            [](const Prompt& a, const Prompt& b) {
              return a.request->arrival < b.request->arrival;
            });
  return prompts;
}

void Scheduler::PlanPrefill(Draft& draft) {
  std::vector<Prompt> prompts = PromptsOf(draft);
  if (prompts.empty()) return;
  int64_t budget = draft.tokens_left;
  if (draft.plan.decode_tokens > 0) {
    int64_t furthest = 0;
    for (const Prompt& prompt : prompts) {
      furthest = std::max(furthest, prompt.begin);
    }
    budget = std::min(budget, prefill_budget_.TokensBeside(
                                  draft.plan.decode_tokens, furthest));
  }
  // The oldest, then the shortest first.
  std::stable_sort(
      prompts.begin() + 1, prompts.end(),
      [](const Prompt& a, const Prompt& b) { return a.missing < b.missing; });
  int64_t others = 0;
  for (size_t i = 1; i < prompts.size(); ++i) others += prompts[i].missing;
  const int64_t first_share = std::max((budget + 1) / 2, budget - others);
  double position_sum = 0;
  for (const Prompt& prompt : prompts) {
    if (budget <= 0) break;
    const int64_t wanted = &prompt == &prompts.front() ? first_share : budget;
    const int64_t given = AddPrefill(draft, prompt, wanted);
    budget -= given;
    position_sum +=
        static_cast<double>(given) *
        (static_cast<double>(prompt.begin) + 0.5 * static_cast<double>(given));
  }
  if (draft.plan.prefill_tokens > 0) {
    draft.plan.mean_prefill_position =
        position_sum / static_cast<double>(draft.plan.prefill_tokens);
  }
}

int64_t Scheduler::AddPrefill(Draft& draft, const Prompt& prompt,
                              int64_t count) const {
  count = std::min(count, prompt.missing);
  if (cache_.RepeatsOneByOne(prompt.request->request.kv)) {
    const int64_t left = prompt.request->num_read_as_prompt() - prompt.begin;
    count = std::min(count, std::max<int64_t>(left, 1));
  }
  const auto rows_wanted = [&prompt](int64_t tokens) {
    return prompt.request->LogitsWanted(prompt.begin, tokens);
  };
  // Rows wanted grow by at most one a token, so this ends at the longest chunk
  // whose rows fit.
  while (count > 0 && rows_wanted(count) > draft.logits_left) {
    count -= std::max<int64_t>(rows_wanted(count) - draft.logits_left, 1);
  }
  if (count <= 0) return 0;
  const int64_t rows = rows_wanted(count);
  draft.plan.shares.push_back({prompt.request, count, rows, /*decode=*/false});
  draft.plan.prefill_tokens += count;
  draft.tokens_left -= count;
  draft.logits_left -= rows;
  return count;
}

void Scheduler::Commit(const StepPlan& plan) {
  for (ActiveRequest* request : plan.preempted) {
    std::unique_ptr<ActiveRequest> taken = TakeOut(running_, request);
    taken->lease.reset();
    ++taken->preemptions;
    InsertByArrival(waiting_, std::move(taken));
  }
  // A plan never promises pages that are not there. Reused pages are held
  // before anybody takes one, which might evict them.
  for (size_t i = 0; i < plan.admitted.size(); ++i) {
    const PrefixMatch& match = plan.matches[i];
    std::unique_ptr<ActiveRequest> taken = TakeOut(waiting_, plan.admitted[i]);
    taken->lease = cache_.Open(taken->request.kv, match);
    taken->lease->sequence().num_prompt = taken->num_read_as_prompt();
    // After a preemption it finds what it computed itself.
    if (taken->preemptions == 0) taken->cached_tokens = match.num_tokens;
    SKV_CHECK(taken->lease->Promise(taken->num_tokens()).ok());
    InsertByArrival(running_, std::move(taken));
  }
  for (const StepShare& share : plan.shares) {
    SKV_CHECK(share.request->lease
                  ->Reserve(share.request->num_computed() + share.num_tokens)
                  .ok());
    share.request->last_step = step_;
  }
  ++step_;
}

void Scheduler::RecordStep(const StepPlan& plan, absl::Duration time) {
  prefill_budget_.Record(plan.decode_tokens, plan.prefill_tokens,
                         plan.mean_prefill_position, time);
}

}  // namespace sentencekv
