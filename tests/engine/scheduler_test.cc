#include "engine/scheduler.h"

#include <map>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/engine/core_harness.h"

namespace sentencekv {
namespace {

// A scheduler with its cache, and a model that only counts.
class SchedulerTest : public ::testing::Test {
 protected:
  void Start(const SchedulerLimits& limits, int64_t num_pages) {
    scheduler_.reset();
    cache_.reset();
    pool_ = *PagePool::Create(backend_, ScriptedModel::Layout(num_pages));
    memory_ = MakeInPlaceKvMemory(*pool_);
    cache_ = *KvCache::Create(*memory_, "full", {.tokenizer = &tokenizer_});
    scheduler_ = std::make_unique<Scheduler>(limits, *cache_);
  }
  ~SchedulerTest() override { scheduler_.reset(); }

  ActiveRequest* Add(int64_t prompt_tokens, const std::string& policy = "") {
    Submission submission;
    submission.arrival = next_arrival_++;
    submission.request =
        GreedyRequest(std::to_string(submission.arrival), prompt_tokens, 0);
    submission.request.sampling.seed = 1;
    submission.request.kv.policy = policy;
    submission.stream = std::make_shared<TokenStream>(
        submission.request.request_id, size_t{1000});
    auto request = std::make_unique<ActiveRequest>(
        std::move(submission), tokenizer_, /*max_request_tokens=*/100000);
    ActiveRequest* const added = request.get();
    scheduler_->Add(std::move(request));
    return added;
  }

  // Does what the engine does with a plan. Prompts here begin alike: only some
  // tests leave them to each other.
  void Compute(const StepPlan& plan) {
    for (const StepShare& share : plan.shares) {
      SequenceLease& lease = *share.request->lease;
      ASSERT_TRUE(lease.Begin(share.request->tokens).ok());
      lease.sequence().num_tokens += share.num_tokens;
      if (shares_prefixes_) lease.Register(share.request->tokens);
      if (share.request->num_missing() == 0) {
        share.request->tokens.push_back(1);
      }
    }
  }
  StepPlan Step() {
    const StepPlan plan = scheduler_->Plan();
    scheduler_->Commit(plan);
    Compute(plan);
    pool_->CheckInvariantsForTest();
    cache_->prefixes()->CheckInvariantsForTest();
    return plan;
  }

  static int64_t TokensOf(const StepPlan& plan, const ActiveRequest* request) {
    for (const StepShare& share : plan.shares) {
      if (share.request == request) return share.num_tokens;
    }
    return 0;
  }

  MemoryBackend backend_;
  ByteTokenizer tokenizer_;
  std::unique_ptr<PagePool> pool_;
  std::unique_ptr<KvMemory> memory_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Scheduler> scheduler_;
  int64_t next_arrival_ = 0;
  bool shares_prefixes_ = false;
};

constexpr SchedulerLimits kLimits = {.max_step_tokens = 64,
                                     .max_step_logits = 16,
                                     .max_prefill_tokens_beside_decode = 32,
                                     .max_running = 8};

TEST_F(SchedulerTest, PlanChangesNothing) {
  Start(kLimits, 20);
  Add(10);
  Add(90);
  const StepPlan first = scheduler_->Plan();
  const StepPlan second = scheduler_->Plan();
  EXPECT_EQ(first.admitted, second.admitted);
  EXPECT_EQ(first.prefill_tokens, second.prefill_tokens);
  EXPECT_EQ(scheduler_->running().size(), 0u);
  EXPECT_EQ(pool_->stats().used, 0);
}

TEST_F(SchedulerTest, AdmitsInOrderWhileAllTheirPagesAreFree) {
  Start(kLimits, 10);
  ActiveRequest* first = Add(60);   // 4 pages
  ActiveRequest* second = Add(90);  // 6 pages and a margin of 1
  ActiveRequest* third = Add(1);    // would fit, but is behind
  const StepPlan plan = Step();
  EXPECT_EQ(plan.admitted, std::vector<ActiveRequest*>{first});
  EXPECT_EQ(pool_->stats().used, 4) << "pages for the whole prompt";
  scheduler_->Remove(first);
  EXPECT_EQ(Step().admitted, (std::vector<ActiveRequest*>{second, third}));
}

TEST_F(SchedulerTest, AdmitsOneThatNeedsTheWholePool) {
  Start(kLimits, 10);
  ActiveRequest* large = Add(160);
  EXPECT_EQ(Step().admitted, std::vector<ActiveRequest*>{large});
}

TEST_F(SchedulerTest, RunsNoMoreThanAllowed) {
  SchedulerLimits limits = kLimits;
  limits.max_running = 3;
  Start(limits, 100);
  for (int i = 0; i < 5; ++i) Add(4);
  EXPECT_EQ(Step().admitted.size(), 3u);
  EXPECT_EQ(scheduler_->waiting().size(), 2u);
}

TEST_F(SchedulerTest, PreemptsTheYoungestWhenPagesRunOut) {
  Start(kLimits, 4);
  ActiveRequest* oldest = Add(16);
  ActiveRequest* youngest = Add(16);
  EXPECT_EQ(Step().admitted.size(), 2u);
  // Both want their second page now; then, 16 tokens on, their third.
  std::vector<ActiveRequest*> preempted;
  for (int step = 0; step < 20 && preempted.empty(); ++step) {
    preempted = Step().preempted;
  }
  EXPECT_EQ(preempted, std::vector<ActiveRequest*>{youngest});
  EXPECT_EQ(youngest->lease, nullptr);
  EXPECT_EQ(youngest->preemptions, 1);
  EXPECT_EQ(scheduler_->waiting().front().get(), youngest);
  EXPECT_EQ(oldest->preemptions, 0);
  // It comes back, before newer ones, when there is room for all its tokens.
  Add(1);
  const int64_t tokens = youngest->num_tokens();
  EXPECT_GT(tokens, 17);
  scheduler_->Remove(oldest);
  const StepPlan plan = Step();
  ASSERT_FALSE(plan.admitted.empty());
  EXPECT_EQ(plan.admitted[0], youngest);
  EXPECT_EQ(TokensOf(plan, youngest), tokens);
}

// What a policy's generated tokens read depends on what was selected when there
// was one of them.
TEST_F(SchedulerTest, GeneratedTokensComeBackOneByOneWherePoliciesWantIt) {
  for (const std::string policy : {"full", "sentence"}) {
    SCOPED_TRACE(policy);
    Start(kLimits, 4);
    ActiveRequest* oldest = Add(16);
    ActiveRequest* youngest = Add(16, policy);
    for (int step = 0; step < 20 && youngest->preemptions == 0; ++step) Step();
    ASSERT_EQ(youngest->preemptions, 1);
    const int64_t tokens = youngest->num_tokens();
    ASSERT_GT(tokens, 18);
    scheduler_->Remove(oldest);
    if (policy == "full") {
      EXPECT_EQ(TokensOf(Step(), youngest), tokens);
      continue;
    }
    EXPECT_EQ(TokensOf(Step(), youngest), 16);  // the prompt
    for (int64_t i = 16; i < tokens; ++i) {
      EXPECT_EQ(TokensOf(Step(), youngest), 1) << i;
    }
    EXPECT_EQ(youngest->num_tokens(), tokens + 1);
  }
}

// Five want a page in the same step, none is free, and each holds one: two can
// go on with what three give up, and no page is promised twice.
TEST_F(SchedulerTest, PromisesAPreemptedRequestsPagesOnce) {
  Start(kLimits, 10);
  std::vector<ActiveRequest*> requests;
  for (int i = 0; i < 5; ++i) requests.push_back(Add(kPageTokens));
  ASSERT_EQ(Step().admitted.size(), 5u);
  ASSERT_EQ(pool_->num_free(), 5);
  std::vector<int32_t> elsewhere;
  ASSERT_TRUE(pool_->Take(5, &elsewhere).ok());
  const StepPlan plan = Step();
  EXPECT_EQ(plan.preempted, (std::vector<ActiveRequest*>{
                                requests[4], requests[3], requests[2]}));
  EXPECT_EQ(plan.decode_tokens, 2);
  EXPECT_EQ(TokensOf(plan, requests[0]), 1);
  EXPECT_EQ(TokensOf(plan, requests[1]), 1);
  pool_->Release(elsewhere);
}

TEST_F(SchedulerTest, ComputesOnlyWhatTheCacheHasNot) {
  shares_prefixes_ = true;
  Start(kLimits, 20);
  ActiveRequest* first = Add(60);
  Step();
  scheduler_->Remove(first);
  ASSERT_EQ(pool_->stats().cached, 3);
  ActiveRequest* again = Add(60);
  const StepPlan plan = Step();
  EXPECT_EQ(plan.matches[0].num_tokens, 48);
  EXPECT_EQ(TokensOf(plan, again), 12);
  EXPECT_EQ(again->cached_tokens, 48);
  EXPECT_EQ(again->num_tokens(), 61) << "its prompt is computed";
  // A third needs one page beside those that are in use, and its margin.
  std::vector<int32_t> elsewhere;
  ASSERT_TRUE(pool_->Take(pool_->num_free() - 2, &elsewhere).ok());
  ActiveRequest* third = Add(60);
  EXPECT_EQ(Step().admitted, std::vector<ActiveRequest*>{third});
  scheduler_->Remove(again);
  scheduler_->Remove(third);
  pool_->Release(elsewhere);
}

// Its last page would be copied, and there is no page for a copy.
TEST_F(SchedulerTest, ARequestThatNeedsTheWholePoolIsAdmittedTwice) {
  shares_prefixes_ = true;
  SchedulerLimits limits = kLimits;
  limits.max_step_tokens = 200;
  Start(limits, 10);
  ActiveRequest* first = Add(160);
  Step();
  scheduler_->Remove(first);
  ASSERT_EQ(pool_->stats().cached, 10);
  ActiveRequest* second = Add(160);
  const StepPlan plan = Step();
  EXPECT_EQ(TokensOf(plan, second), 16);
  EXPECT_EQ(pool_->num_evictions(), 1);
}

// Two old requests want a page. The youngest shares three of its four with
// another: without it only one page is free, so the other has to go too.
TEST_F(SchedulerTest, SharedPagesAreFreeWithTheLastOfTheirHolders) {
  shares_prefixes_ = true;
  SchedulerLimits limits = kLimits;
  limits.max_step_tokens = 128;
  Start(limits, 20);
  ActiveRequest* oldest = Add(14);
  ActiveRequest* second = Add(14);
  ActiveRequest* third = Add(49);
  ASSERT_EQ(Step().admitted.size(), 3u);
  scheduler_->RecordStep(Step(), absl::Milliseconds(1));
  ActiveRequest* youngest = Add(49);
  ASSERT_EQ(TokensOf(Step(), youngest), 1);
  std::vector<int32_t> elsewhere;
  ASSERT_TRUE(pool_->Take(pool_->num_free(), &elsewhere).ok());
  const StepPlan plan = Step();
  EXPECT_EQ(plan.preempted, (std::vector<ActiveRequest*>{youngest, third}));
  EXPECT_EQ(TokensOf(plan, oldest), 1);
  EXPECT_EQ(TokensOf(plan, second), 1);
  pool_->Release(elsewhere);
  // Both find their three pages again.
  const StepPlan next = Step();
  EXPECT_EQ(next.admitted, (std::vector<ActiveRequest*>{third, youngest}));
  EXPECT_EQ(next.matches[0].num_tokens, 48);
  EXPECT_EQ(next.matches[1].num_tokens, 48);
  EXPECT_EQ(third->cached_tokens, 0) << "its own pages are no find";
}

TEST_F(SchedulerTest, LeavesOutThoseHeldBack) {
  Start(kLimits, 20);
  ActiveRequest* held = Add(4);
  ActiveRequest* other = Add(4);
  Step();
  held->held_back = true;
  StepPlan plan = Step();
  EXPECT_EQ(TokensOf(plan, held), 0);
  EXPECT_EQ(TokensOf(plan, other), 1);
  other->held_back = true;
  plan = Step();
  EXPECT_TRUE(plan.shares.empty());
  held->held_back = false;
  EXPECT_EQ(TokensOf(Step(), held), 1);
}

TEST_F(SchedulerTest, HalfOfThePrefillGoesToTheOldestTheRestToTheShortest) {
  Start(kLimits, 100);
  ActiveRequest* oldest = Add(500);
  ActiveRequest* middle = Add(400);
  ActiveRequest* shortest = Add(10);
  StepPlan plan = Step();
  EXPECT_EQ(plan.prefill_tokens, 64);
  EXPECT_EQ(TokensOf(plan, oldest), 32);
  EXPECT_EQ(TokensOf(plan, shortest), 10);
  EXPECT_EQ(TokensOf(plan, middle), 22);
  scheduler_->Remove(middle);
  scheduler_->Remove(shortest);
  EXPECT_EQ(TokensOf(Step(), oldest), 64) << "alone it takes all";
}

TEST_F(SchedulerTest, DecodeLeavesRoomForPrompts) {
  SchedulerLimits limits = kLimits;
  limits.max_step_tokens = 8;
  limits.max_running = 20;
  Start(limits, 100);
  for (int i = 0; i < 12; ++i) Add(1);
  for (int i = 0; i < 30; ++i) Step();
  ActiveRequest* prompt = Add(50);
  int steps = 0;
  while (prompt->num_tokens() == 50) {
    const StepPlan plan = Step();
    ASSERT_LE(plan.decode_tokens + plan.prefill_tokens, 8);
    ASSERT_GT(plan.decode_tokens, 0);
    ASSERT_LT(++steps, 80);
  }
}

// Whatever the numbers: a plan keeps its limits, promises only pages that are
// there, and something moves while anything can.
TEST_F(SchedulerTest, RandomPlansKeepTheirLimits) {
  for (uint32_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    shares_prefixes_ = seed % 2 == 0;
    SchedulerLimits limits;
    limits.max_step_tokens = 2 + random() % 60;
    limits.max_step_logits = 2 + random() % 20;
    limits.max_prefill_tokens_beside_decode = 1 + random() % 60;
    limits.max_running = 1 + random() % 10;
    const int64_t num_pages = 5 + random() % 30;
    Start(limits, num_pages);
    for (int step = 0; step < 200; ++step) {
      if (random() % 8 == 0 && scheduler_->waiting().size() < 10) {
        Add(1 + random() % (num_pages * kPageTokens - 1));
      }
      bool can_move = false;
      for (const auto& request : scheduler_->running()) {
        request->held_back = random() % 10 == 0;
        can_move |= !request->held_back;
      }
      // One that was held back when it was preempted may be read again.
      for (const auto& request : scheduler_->waiting()) {
        request->held_back = false;
      }
      can_move |=
          scheduler_->running().empty() && !scheduler_->waiting().empty();
      const StepPlan plan = Step();
      int64_t tokens = 0;
      int64_t logits = 0;
      std::map<ActiveRequest*, int> shares;
      for (const StepShare& share : plan.shares) {
        tokens += share.num_tokens;
        logits += share.num_logits;
        EXPECT_GE(share.num_tokens, 1);
        EXPECT_EQ(++shares[share.request], 1);
        EXPECT_FALSE(share.request->held_back);
      }
      ASSERT_LE(tokens, limits.max_step_tokens);
      ASSERT_LE(logits, limits.max_step_logits);
      ASSERT_EQ(tokens, plan.decode_tokens + plan.prefill_tokens);
      ASSERT_LE(static_cast<int64_t>(scheduler_->running().size()),
                limits.max_running);
      ASSERT_TRUE(!can_move || !plan.shares.empty() || !plan.preempted.empty());
      // Requests end at random, or when the pool could not hold more of them.
      std::vector<ActiveRequest*> over;
      for (const auto& request : scheduler_->running()) {
        if (random() % 40 == 0 ||
            request->num_tokens() >= num_pages * kPageTokens) {
          over.push_back(request.get());
        }
      }
      for (ActiveRequest* request : over) scheduler_->Remove(request);
    }
    while (!scheduler_->running().empty()) {
      scheduler_->Remove(scheduler_->running().back().get());
    }
    ASSERT_EQ(pool_->stats().used, 0);
  }
}

}  // namespace
}  // namespace sentencekv
