// The network against values of independent implementations, on real models.
// Skipped, by name, where a model or the values are not there.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/gguf_vocabulary.h"
#include "engine/model_loader.h"
#include "nlohmann/json.hpp"
#include "tests/support/model_runner.h"
#include "tests/support/test_files.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {
namespace {

using Json = nlohmann::json;

Json ReadJson(const std::string& path) {
  std::ifstream file(path);
  return Json::parse(file);
}

using Tokens = std::vector<int32_t>;

TEST(GoldenModel, SmolLmIsDescribed) {
  const auto model = SmolLmPath();
  SKV_SKIP_WITHOUT(model, "SmolLM2-135M-Instruct.Q4_1.gguf");
  const auto report = InspectModel(*model);
  ASSERT_TRUE(report.ok()) << report.status();
  for (const char* part :
       {"GGUF version 3", "9 query, 3 key and value, 64 wide", "49152",
        "8192 tokens", "theta 100000", "134515008", "chatml"}) {
    EXPECT_NE(report->find(part), std::string::npos) << part << *report;
  }
}

// stories260k in f32 throughout: logits within 0.01, every greedy id equal.
TEST(GoldenModel, Stories260kGreedyTextAndTopLogits) {
  const auto model = SharedPath("models/stories260k");
  const auto golden = SharedPath("golden/stories260k-greedy.json");
  SKV_SKIP_WITHOUT(model, "models/stories260k");
  SKV_SKIP_WITHOUT(golden, "golden/stories260k-greedy.json");
  ModelRunnerOptions options;
  options.num_pages = 256;
  ModelRunner runner(*model, options);
  size_t steps = 0;
  const Json values = ReadJson(*golden);
  for (const Json& c : values["cases"]) {
    const size_t sequence = runner.Add();
    Tokens next = c["prompt_ids"];
    const Json& expected_ids = c["generated_ids"];
    for (size_t step = 0; step < expected_ids.size(); ++step) {
      const auto logits = runner.Step(sequence, next).front();
      for (const Json& top : c["top5_logits"][step]) {
        ASSERT_NEAR(logits[top[0].get<size_t>()], top[1].get<float>(), 0.01)
            << c["prompt"] << " step " << step;
      }
      next = {Greedy(logits)};
      ASSERT_EQ(next.front(), expected_ids[step])
          << c["prompt"] << " step " << step;
      ++steps;
    }
    runner.End(sequence);
  }
  EXPECT_GT(steps, 100u);
}

ModelRunnerOptions SmolLmOptions() {
  ModelRunnerOptions options;
  options.num_pages = 256;
  options.num_threads = 0;
  options.kv_dtype = DType::kF16;
  options.load.max_tokens_per_step = 256;
  options.load.max_logits_per_step = 256;
  return options;
}

// Feeds `tokens` and calls visit(i, logits after token i) from `first` on.
void Visit(
    ModelRunner& runner, size_t sequence, const Tokens& tokens, size_t first,
    const std::function<void(size_t, const std::vector<float>&)>& visit) {
  constexpr size_t kChunk = 256;
  for (size_t begin = 0; begin < tokens.size(); begin += kChunk) {
    const size_t count = std::min(kChunk, tokens.size() - begin);
    const size_t skipped =
        std::min(count, first > begin ? first - begin : size_t{0});
    const auto rows =
        runner.Step(sequence, std::span(tokens).subspan(begin, count),
                    static_cast<int64_t>(count - skipped));
    for (size_t i = 0; i < rows.size(); ++i) {
      visit(begin + skipped + i, rows[i]);
    }
  }
}

// SmolLM2, and the greedy texts that it gives in float32.
class GoldenSmolLmText : public testing::Test {
 protected:
  void SetUp() override {
    const auto model = SmolLmPath();
    const auto golden = SharedPath("golden/smollm2-greedy.json");
    SKV_SKIP_WITHOUT(model, "SmolLM2-135M-Instruct.Q4_1.gguf");
    SKV_SKIP_WITHOUT(golden, "golden/smollm2-greedy.json");
    runner_.emplace(*model, SmolLmOptions());
    cases_ = ReadJson(*golden).at("cases");
  }

  std::optional<ModelRunner> runner_;
  Json cases_;
};

// SmolLM2 with activations rounded to 8 bits, as its 4-bit weights are used.
// Rounding moves margins by 0.1 (median) to 0.93 (the most seen), so that the
// best token is demanded at steps that are decisive (margin above 0.5), with a
// miss or two allowed below a margin of 1, and none above.
TEST_F(GoldenSmolLmText, BestTokensAtDecisiveSteps) {
  int decisive = 0, missed = 0;
  for (const Json& c : cases_) {
    const std::string name = c["name"];
    SCOPED_TRACE(name);
    const Tokens prompt = c["prompt_ids"], ids = c["ids"];
    Tokens fed = prompt;
    fed.insert(fed.end(), ids.begin(), ids.end() - 1);
    const size_t sequence = runner_->Add();
    Visit(*runner_, sequence, fed, prompt.size() - 1,
          [&](size_t i, const std::vector<float>& logits) {
            const size_t step = i + 1 - prompt.size();
            const double margin = c["margins"][step];
            if (c["decisive"][step] == 0) return;
            ++decisive;
            if (Greedy(logits) == ids[step]) return;
            ++missed;
            EXPECT_LT(margin, 1.0) << "step " << step;
          });
    runner_->End(sequence);
  }
  EXPECT_GT(decisive, 300);
  EXPECT_LE(missed, 2) << "of " << decisive;
  std::printf("best token at %d decisive steps: %d missed\n", decisive, missed);
}

// Free-running text, as far as no near tie lets it go astray.
TEST_F(GoldenSmolLmText, IsTheSameUpToTheFirstNearTie) {
  for (const Json& c : cases_) {
    const Tokens prompt = c["prompt_ids"], ids = c["ids"];
    const size_t safe = c["safe_prefix"];
    const size_t sequence = runner_->Add();
    Tokens generated, next;
    Visit(*runner_, sequence, prompt, prompt.size() - 1,
          [&](size_t, const std::vector<float>& logits) {
            next = {Greedy(logits)};
          });
    while (generated.size() < safe) {
      generated.push_back(next.front());
      next = {Greedy(runner_->Step(sequence, next).front())};
    }
    EXPECT_EQ(generated, Tokens(ids.begin(), ids.begin() + safe)) << c["name"];
    runner_->End(sequence);
  }
}

// A record's field of the evaluation prompts, cut as the golden case says.
std::optional<Tokens> TextOf(const Json& c, const Tokenizer& tokenizer) {
  const std::string file = c["file"];  // "shared/data/..."
  const auto path = SharedPath(file.substr(file.find('/') + 1));
  if (!path.has_value()) return std::nullopt;
  std::ifstream lines(*path);
  std::string line;
  for (int i = 0; i <= c["record"].get<int>(); ++i) std::getline(lines, line);
  const std::string field = c["field"];
  const std::string text = Json::parse(line)[field];
  const auto ids = tokenizer.Encode(text, {});
  EXPECT_TRUE(ids.ok()) << ids.status();
  const size_t begin = c["tokens"][0], end = c["tokens"][1];
  EXPECT_GE(ids->size(), end);
  return Tokens(ids->begin() + begin, ids->begin() + end);
}

double Loss(const std::vector<float>& logits, int32_t target) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit} - largest);
  return std::log(sum) + largest - logits[static_cast<size_t>(target)];
}

// Mean loss within 0.01 nats of float32, every bucket within 0.03. The wrong
// form of rotary embedding costs 1.2 nats.
TEST(GoldenModel, SmolLmLossOfLongTexts) {
  const auto model = SmolLmPath();
  const auto golden = SharedPath("golden/smollm2-perplexity.json");
  SKV_SKIP_WITHOUT(model, "SmolLM2-135M-Instruct.Q4_1.gguf");
  SKV_SKIP_WITHOUT(golden, "golden/smollm2-perplexity.json");
  ModelRunner runner(*model, SmolLmOptions());
  const auto checkpoint = OpenCheckpoint(*model);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  auto vocabulary =
      VocabularyFromGguf(*checkpoint->gguf, runner.model().info().vocab_size);
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  const auto tokenizer = MakeTokenizer(*std::move(vocabulary));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();

  const Json values = ReadJson(*golden);
  const size_t bucket = values["bucket"], first = values["first_position"];
  for (const Json& c : values["cases"]) {
    const std::string name = c["name"];
    SCOPED_TRACE(name);
    const auto tokens = TextOf(c, **tokenizer);
    SKV_SKIP_WITHOUT(tokens, c["file"].get<std::string>());
    const Tokens first_ids = c["first_ids"], last_ids = c["last_ids"];
    ASSERT_TRUE(
        std::equal(first_ids.begin(), first_ids.end(), tokens->begin()));
    ASSERT_TRUE(
        std::equal(last_ids.rbegin(), last_ids.rend(), tokens->rbegin()));
    double total = 0;
    std::vector<double> sums(tokens->size() / bucket + 1);
    std::vector<int> counts(sums.size());
    const size_t sequence = runner.Add();
    Visit(runner, sequence, *tokens, 0,
          [&](size_t i, const std::vector<float>& logits) {
            const size_t position = i + 1;
            if (position < first || position >= tokens->size()) return;
            const double loss = Loss(logits, (*tokens)[position]);
            total += loss;
            sums[position / bucket] += loss;
            ++counts[position / bucket];
          });
    runner.End(sequence);
    const double mean = total / static_cast<double>(tokens->size() - first);
    const Json& expected = c["float32"];
    EXPECT_NEAR(mean, expected["mean"].get<double>(), 0.01);
    double worst = 0;
    for (size_t i = 0; i < expected["buckets"].size(); ++i) {
      const double difference =
          sums[i] / counts[i] - expected["buckets"][i].get<double>();
      EXPECT_LT(std::abs(difference), 0.03) << "bucket " << i;
      worst = std::max(worst, std::abs(difference));
    }
    std::printf("%s: loss %.5f, float32 %.5f, worst bucket %.4f\n",
                name.c_str(), mean, expected["mean"].get<double>(), worst);
  }
}

}  // namespace
}  // namespace sentencekv
