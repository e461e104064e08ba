#include "engine/prefill_budget.h"

#include <algorithm>
#include <random>

#include "gtest/gtest.h"

namespace sentencekv {
namespace {

// What steps cost on some machine, in seconds.
struct Machine {
  double fixed = 0.004;
  double per_row = 0.0015;
  double per_prompt_token = 0.0012;
  double per_position = 0;  // of a prompt token, for each token before it
  double per_context = 0;   // of a row, for each step since the beginning
  double noise = 0;         // relative

  double StepTime(int64_t step, int64_t rows, int64_t tokens, double position,
                  std::mt19937& random) const {
    std::uniform_real_distribution<double> spread(1 - noise, 1 + noise);
    const double row = per_row + per_context * static_cast<double>(step);
    return (fixed + row * static_cast<double>(rows) +
            static_cast<double>(tokens) *
                (per_prompt_token + per_position * position)) *
           spread(random);
  }
};

struct Trace {
  double decode_seconds = 0;  // of a decode-only step
  double worst_seconds = 0;   // of a step beside the prompt
  double total_seconds = 0;
  int64_t decode_only_steps = 0;
  int64_t steps = 0;
};

// 20 decode-only steps of `rows` rows, then a prompt of `prompt_tokens`.
Trace Simulate(const Machine& machine, int64_t rows, int64_t prompt_tokens,
               int64_t max_tokens, uint32_t seed) {
  std::mt19937 random(seed);
  PrefillBudget budget(max_tokens);
  Trace trace;
  for (int i = 0; i < 20; ++i) {
    const double seconds = machine.StepTime(0, rows, 0, 0, random);
    trace.decode_seconds += seconds / 20;
    budget.Record(rows, 0, 0, absl::Seconds(seconds));
  }
  for (int64_t position = 0; position < prompt_tokens;) {
    const int64_t tokens =
        std::min(budget.TokensBeside(rows, position), prompt_tokens - position);
    const double middle = static_cast<double>(position) + 0.5 * tokens;
    const double seconds =
        machine.StepTime(trace.steps, rows, tokens, middle, random);
    budget.Record(rows, tokens, middle, absl::Seconds(seconds));
    trace.worst_seconds = std::max(trace.worst_seconds, seconds);
    trace.total_seconds += seconds;
    trace.decode_only_steps += tokens == 0;
    ++trace.steps;
    position += tokens;
  }
  return trace;
}

TEST(PrefillBudget, KeepsTheWorstGapUnderFourTimesTheMedian) {
  struct Case {
    const char* name;
    Machine machine;
    int64_t rows;
  };
  const Case cases[] = {
      {"flat cost", {}, 16},
      {"attention doubles the cost at 8,000", {.per_position = 1.5e-7}, 16},
      {"attention is ten times the cost at 8,000",
       {.per_position = 1.4e-6},
       16},
      {"noise of 20 %", {.per_position = 1.5e-7, .noise = 0.2}, 16},
      {"dear prompt tokens", {.per_prompt_token = 0.0025}, 16},
      {"few rows", {.per_row = 0.004}, 4},
      {"decoding doubles in 500 steps", {.per_context = 3e-6}, 16},
  };
  for (const Case& c : cases) {
    for (uint32_t seed = 1; seed <= 5; ++seed) {
      SCOPED_TRACE(testing::Message() << c.name << ", seed " << seed);
      const Trace trace = Simulate(c.machine, c.rows, 8000, 256, seed);
      const double ratio = trace.worst_seconds / trace.decode_seconds;
      // Where even the smallest chunk costs more there is nothing to choose.
      const double least =
          1 + PrefillBudget::kMinTokens *
                  (c.machine.per_prompt_token + c.machine.per_position * 8000) /
                  trace.decode_seconds;
      EXPECT_LT(ratio, std::max(3.5, least * 1.25));
      EXPECT_LE(trace.decode_only_steps * 50, trace.steps + 50);
    }
  }
}

TEST(PrefillBudget, UsesTheRoomThereIs) {
  // Prompt tokens that cost next to nothing: the cap decides.
  const Machine cheap = {.per_prompt_token = 1e-6};
  EXPECT_LT(Simulate(cheap, 16, 8000, 64, 1).steps, 8000 / 64 + 10);
  // A step of 28 ms leaves 33.6 ms, 28 tokens of 1.2 ms.
  const Trace trace = Simulate({}, 16, 8000, 256, 1);
  EXPECT_NEAR(static_cast<double>(trace.steps), 8000.0 / 28, 20);
}

// What readers were used to counts, not the longer steps of now.
TEST(PrefillBudget, TakesFewerTokensAsDecodingGrows) {
  const Machine growing = {.per_context = 3e-6};
  const Trace trace = Simulate(growing, 16, 8000, 256, 1);
  EXPECT_LT(trace.worst_seconds, 2.5 * trace.decode_seconds);
  // Decoding has grown beyond the whole target: prompts still move.
  const Machine fast_growing = {.per_context = 3e-5};
  EXPECT_LT(Simulate(fast_growing, 16, 2000, 256, 1).steps, 500);
}

// A slow moment right before the prompt comes does not count as usual.
TEST(PrefillBudget, MeasuresAgainstTheMedian) {
  PrefillBudget budget(256);
  for (int i = 0; i < 400; ++i) budget.Record(4, 0, 0, absl::Milliseconds(20));
  for (int i = 0; i < 20; ++i) budget.Record(4, 0, 0, absl::Milliseconds(40));
  int64_t tokens = 0;
  for (int i = 0; i < 60; ++i) {
    tokens = budget.TokensBeside(4, 0);
    budget.Record(4, tokens, 0,
                  absl::Milliseconds(20) + tokens * absl::Milliseconds(0.5));
    if (tokens == 0) budget.Record(4, 0, 0, absl::Milliseconds(20));
  }
  // 2.2 times 20 to 23 ms, less what decoding seems to take.
  EXPECT_LT(tokens, 80);
  EXPECT_GE(tokens, 8);
}

// What a first chunk costs is not known well.
TEST(PrefillBudget, BeginsWithAShortChunk) {
  PrefillBudget budget(256);
  for (int i = 0; i < 20; ++i) budget.Record(4, 0, 0, absl::Milliseconds(20));
  for (int i = 0; i < 40; ++i) {
    const int64_t tokens = budget.TokensBeside(4, 0);
    budget.Record(4, tokens, 0,
                  absl::Milliseconds(20) + tokens * absl::Milliseconds(0.1));
  }
  EXPECT_GT(budget.TokensBeside(4, 0), 100);
  budget.Record(4, 0, 0, absl::Milliseconds(20));
  EXPECT_LE(budget.TokensBeside(4, 0), PrefillBudget::kFirstTokens);
}

TEST(PrefillBudget, AlwaysMovesOnceMeasured) {
  PrefillBudget budget(64);
  budget.Record(1, 0, 0, absl::Milliseconds(1));
  budget.Record(1, 16, 0, absl::Seconds(10));
  EXPECT_EQ(budget.TokensBeside(1, 0), PrefillBudget::kMinTokens);
  PrefillBudget small(3);
  small.Record(1, 0, 0, absl::Milliseconds(1));
  EXPECT_EQ(small.TokensBeside(1, 0), 3);
}

TEST(PrefillBudget, AsksForADecodeOnlyStepOnlyNowAndThen) {
  PrefillBudget budget(64);
  // Nothing is known: measure first. But when rows change at every step,
  // prompts still move.
  int asked = 0;
  for (int64_t i = 0; i < 80; ++i) {
    const int64_t rows = 1 + i;
    const int64_t tokens = budget.TokensBeside(rows, 0);
    asked += tokens == 0;
    budget.Record(rows, tokens, 0, absl::Milliseconds(10));
  }
  EXPECT_GE(asked, 1);
  EXPECT_LE(asked, 10);
}

TEST(PrefillBudget, MeasuresAgainWhenADecodeTimeIsOld) {
  PrefillBudget budget(64);
  budget.Record(2, 0, 0, absl::Milliseconds(10));
  int since = 0;
  while (budget.TokensBeside(2, 0) > 0) {
    budget.Record(2, 16, 100, absl::Milliseconds(15));
    ASSERT_LT(++since, 200);
  }
  EXPECT_GT(since, 100);
}

TEST(PrefillBudget, SurvivesAClockThatDoesNotMove) {
  PrefillBudget budget(64);
  for (int i = 0; i < 50; ++i) {
    const int64_t tokens = budget.TokensBeside(3, i);
    EXPECT_LE(tokens, 64);
    budget.Record(3, tokens, i, absl::Seconds(i % 2 == 0 ? 0 : -1));
  }
  EXPECT_EQ(budget.TokensBeside(3, 0), 64);
}

// A step that the system interrupted does not choke prompts for long.
TEST(PrefillBudget, ForgetsAnOutlier) {
  PrefillBudget budget(256);
  for (int i = 0; i < 20; ++i) budget.Record(4, 0, 0, absl::Milliseconds(20));
  for (int i = 0; i < 20; ++i) {
    const int64_t tokens = budget.TokensBeside(4, 0);
    budget.Record(4, tokens, 0,
                  absl::Milliseconds(20) + tokens * absl::Milliseconds(0.5));
  }
  const int64_t before = budget.TokensBeside(4, 0);
  EXPECT_NEAR(static_cast<double>(before), 48, 6);
  budget.Record(4, before, 0, absl::Seconds(5));
  EXPECT_GE(budget.TokensBeside(4, 0), before / 2);
}

}  // namespace
}  // namespace sentencekv
