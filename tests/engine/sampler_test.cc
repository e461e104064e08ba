#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>

#include "gtest/gtest.h"

namespace sentencekv {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Samples one token with a fresh sampler per draw, seeds 0..draws-1.
std::vector<double> Frequencies(const SamplingParams& params,
                                const std::vector<float>& logits, int draws) {
  std::vector<double> counts(logits.size(), 0);
  SamplerWorkspace workspace;
  for (int seed = 0; seed < draws; ++seed) {
    Sampler sampler(params, seed, -1, {});
    const auto token = sampler.Sample(logits, {}, workspace);
    EXPECT_TRUE(token.ok());
    ++counts[token->id];
  }
  return counts;
}

// The distribution that the parameters define, by a full sort.
std::vector<double> Expected(const SamplingParams& params,
                             const std::vector<float>& logits) {
  std::vector<size_t> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  auto weight = [&](size_t id) {
    return std::exp((logits[id] - logits[order[0]]) / params.temperature);
  };
  if (params.top_k > 0 && static_cast<size_t>(params.top_k) < order.size()) {
    order.resize(params.top_k);
  }
  double total = 0;
  for (size_t id : order) total += weight(id);
  double sum = 0;
  size_t kept = 0;
  while (kept < order.size() && sum < params.top_p * total) {
    sum += weight(order[kept++]);
  }
  order.resize(std::max<size_t>(kept, 1));
  std::vector<double> probabilities(logits.size(), 0);
  total = 0;
  for (size_t id : order) {
    if (weight(id) >= params.min_p) total += weight(id);
  }
  for (size_t id : order) {
    if (weight(id) >= params.min_p) probabilities[id] = weight(id) / total;
  }
  return probabilities;
}

TEST(Sampler, DrawsFromTheDistributionThatTheParametersDefine) {
  struct Case {
    const char* name;
    SamplingParams params;
  };
  const Case cases[] = {
      {"plain", {}},
      {"hot", {.temperature = 2.5f}},
      {"cold", {.temperature = 0.3f}},
      {"top_k", {.top_k = 4}},
      {"top_k of all", {.top_k = 500}},
      {"top_p", {.top_p = 0.7f}},
      {"top_p of one", {.top_p = 0.01f}},
      {"min_p", {.min_p = 0.2f}},
      {"top_k and top_p", {.top_k = 6, .top_p = 0.6f}},
      {"all", {.temperature = 1.5f, .top_k = 12, .top_p = 0.9f, .min_p = 0.1f}},
  };
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, 1.5f);
  std::vector<float> logits(20);
  for (float& logit : logits) logit = normal(random);
  constexpr int kDraws = 20000;
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const auto expected = Expected(c.params, logits);
    const auto counts = Frequencies(c.params, logits, kDraws);
    double chi_square = 0;
    int cells = 0;
    for (size_t id = 0; id < logits.size(); ++id) {
      if (expected[id] == 0) {
        EXPECT_EQ(counts[id], 0) << "token " << id << " was filtered out";
        continue;
      }
      const double want = expected[id] * kDraws;
      chi_square += (counts[id] - want) * (counts[id] - want) / want;
      ++cells;
    }
    // 19 degrees of freedom stay below 43.8 with probability 0.999; fewer
    // below less.
    EXPECT_LT(chi_square, 43.8) << cells << " cells";
  }
}

// A vocabulary much larger than the first round of candidates.
TEST(Sampler, TopPFindsItsPrefixInALargeVocabulary) {
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    // From peaked to nearly flat.
    std::normal_distribution<float> normal(0, 0.02f * seed * seed);
    std::vector<float> logits(5000);
    for (float& logit : logits) logit = normal(random);
    SamplingParams params;
    params.top_p = 0.05f + 0.9f * (seed % 10) / 10;
    const auto expected = Expected(params, logits);
    SamplerWorkspace workspace;
    for (uint64_t draw = 0; draw < 100; ++draw) {
      Sampler sampler(params, draw, -1, {});
      const int32_t id = sampler.Sample(logits, {}, workspace)->id;
      ASSERT_GT(expected[id], 0) << "outside of the nucleus";
    }
  }
}

TEST(Sampler, GreedyTakesTheLowestIdOnTies) {
  SamplingParams params;
  params.temperature = 0;
  Sampler sampler(params, 1, -1, {});
  SamplerWorkspace workspace;
  const std::vector<float> logits = {0, 5, 2, 5, 5};
  EXPECT_EQ(sampler.Sample(logits, {}, workspace)->id, 1);
  const int32_t forbidden[] = {1};
  EXPECT_EQ(sampler.Sample(logits, forbidden, workspace)->id, 3);
}

TEST(Sampler, IsAFunctionOfSeedAndIndex) {
  std::vector<float> logits(500);
  std::mt19937 random(3);
  for (float& logit : logits) logit = static_cast<float>(random() % 100) / 50;
  auto draw = [&](uint64_t seed, int count) {
    SamplingParams params;
    Sampler sampler(params, seed, -1, {});
    SamplerWorkspace workspace;
    std::vector<int32_t> ids;
    for (int i = 0; i < count; ++i) {
      ids.push_back(sampler.Sample(logits, {}, workspace)->id);
    }
    return ids;
  };
  EXPECT_EQ(draw(11, 30), draw(11, 30));
  EXPECT_NE(draw(11, 30), draw(12, 30));
  const auto ids = draw(11, 30);
  EXPECT_GT(std::set<int32_t>(ids.begin(), ids.end()).size(), 10u);
}

TEST(Sampler, AppliesPenaltiesAndBias) {
  struct Case {
    const char* name;
    SamplingParams params;
    std::vector<float> logits;
    std::vector<int32_t> expected;  // greedy, token by token; prompt is {0}
  };
  const Case cases[] = {
      {"repetition divides a positive logit",
       {.repetition_penalty = 2},
       {4, 3, 1},
       {1, 0, 0}},
      {"repetition multiplies a negative one",
       {.repetition_penalty = 2},
       {-1, -1.5, -4},
       {1, 0, 0}},
      {"repetition below one prefers what was",
       {.repetition_penalty = 0.5},
       {2, 3, 1},
       {0, 0}},
      {"presence counts a generated token once, not the prompt",
       {.presence_penalty = 1.5},
       {4, 3, 2},
       {0, 1, 0, 0}},
      {"frequency counts every time",
       {.frequency_penalty = 0.6f},
       {4, 3, 2},
       {0, 0, 1, 0, 1}},
      {"bias is added",
       {.logit_bias = {{2, 5.0f}, {0, -1.0f}}},
       {4, 3, 2},
       {2}},
  };
  for (Case c : cases) {
    SCOPED_TRACE(c.name);
    c.params.temperature = 0;
    const int32_t prompt[] = {0};
    Sampler sampler(c.params, 1, -1, prompt);
    SamplerWorkspace workspace;
    for (const int32_t id : c.expected) {
      ASSERT_EQ(sampler.Sample(c.logits, {}, workspace)->id, id);
    }
  }
}

TEST(Sampler, NeverDrawsAForbiddenToken) {
  SamplingParams params;
  params.temperature = 5;
  Sampler sampler(params, 4, -1, {});
  SamplerWorkspace workspace;
  const std::vector<float> logits = {9, 0, 0, 0};
  const int32_t forbidden[] = {0, 2};
  for (int i = 0; i < 200; ++i) {
    const int32_t id = sampler.Sample(logits, forbidden, workspace)->id;
    ASSERT_TRUE(id == 1 || id == 3);
  }
}

TEST(Sampler, ReportsLogprobsOfTheUnmodifiedSoftmax) {
  SamplingParams params;
  params.temperature = 0;
  params.logit_bias = {{2, 100.0f}};
  Sampler sampler(params, 1, /*num_logprobs=*/2, {});
  SamplerWorkspace workspace;
  const std::vector<float> logits = {1, 3, 2, 0};
  const double log_sum = LogSumExp(logits);
  const auto token = sampler.Sample(logits, {}, workspace);
  EXPECT_EQ(token->id, 2);
  EXPECT_NEAR(*token->logprob, 2 - log_sum, 1e-6);
  ASSERT_EQ(token->top_logprobs.size(), 2u);
  EXPECT_EQ(token->top_logprobs[0].token_id, 1);
  EXPECT_NEAR(token->top_logprobs[0].logprob, 3 - log_sum, 1e-6);
  EXPECT_EQ(token->top_logprobs[1].token_id, 2);
  EXPECT_NEAR(*LogprobOf(logits, 3), -log_sum, 1e-6);
}

TEST(Sampler, GivesNoLogprobsUnlessAsked) {
  SamplingParams params;
  SamplerWorkspace workspace;
  const std::vector<float> logits = {1, 3};
  Sampler none(params, 1, -1, {});
  EXPECT_FALSE(none.Sample(logits, {}, workspace)->logprob.has_value());
  Sampler chosen_only(params, 1, 0, {});
  const auto token = chosen_only.Sample(logits, {}, workspace);
  EXPECT_TRUE(token->logprob.has_value());
  EXPECT_TRUE(token->top_logprobs.empty());
}

TEST(Sampler, FailsOnLogitsThatAreNotFinite) {
  SamplerWorkspace workspace;
  for (const float bad : {kInfinity, std::nanf("")}) {
    for (const float temperature : {0.0f, 1.0f}) {
      SamplingParams params;
      params.temperature = temperature;
      Sampler sampler(params, 1, -1, {});
      const std::vector<float> logits = {1, bad, 2};
      EXPECT_EQ(sampler.Sample(logits, {}, workspace).status().code(),
                absl::StatusCode::kInternal);
      EXPECT_FALSE(LogprobOf(logits, 0).ok());
    }
  }
  Sampler sampler({}, 1, -1, {});
  const int32_t all[] = {0, 1};
  EXPECT_EQ(
      sampler.Sample(std::vector<float>{1, 2}, all, workspace).status().code(),
      absl::StatusCode::kFailedPrecondition);
}

// Every pair of extreme settings over hostile logits gives some possible token.
TEST(Sampler, SurvivesExtremeCombinations) {
  const float temperatures[] = {0, 1e-30f, 1, 100};
  const float top_ps[] = {1e-6f, 0.5f, 1};
  const float min_ps[] = {0, 0.5f, 1};
  const float repetitions[] = {1e-6f, 1, 100};
  const float frequencies[] = {-100, 0, 100};
  const std::vector<float> rows[] = {
      {0, 0, 0, 0},
      {1e30f, -1e30f, 0, 1},
      {-kInfinity, -3, -kInfinity, -kInfinity},
      {3.4e38f, 3.4e38f, -3.4e38f, 0},
  };
  SamplerWorkspace workspace;
  for (float temperature : temperatures) {
    for (float top_p : top_ps) {
      for (float min_p : min_ps) {
        for (float repetition : repetitions) {
          for (float frequency : frequencies) {
            for (int32_t top_k : {0, 1, 3, 9}) {
              const SamplingParams params = {.temperature = temperature,
                                             .top_k = top_k,
                                             .top_p = top_p,
                                             .min_p = min_p,
                                             .repetition_penalty = repetition,
                                             .frequency_penalty = frequency,
                                             .presence_penalty = frequency};
              for (const auto& row : rows) {
                const int32_t prompt[] = {0, 1};
                Sampler sampler(params, 5, 1, prompt);
                for (int i = 0; i < 2; ++i) {
                  const auto token = sampler.Sample(row, {}, workspace);
                  ASSERT_TRUE(token.ok()) << token.status();
                  ASSERT_NE(row[token->id], -kInfinity);
                }
              }
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace sentencekv
