// sentence-paper against the published code: what it kept and read, and what it
// then said. Skipped, by name, where a model or the values are not there.
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "nlohmann/json.hpp"
#include "tests/support/paper_run.h"
#include "tests/support/test_files.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {
namespace {

using Json = nlohmann::json;
using Tokens = std::vector<int32_t>;

class GoldenPaper : public testing::TestWithParam<const char*> {};

KvOptions OptionsOf(const Json& golden) {
  if (golden.contains("tau")) {
    return {.token_budget = golden["tau"], .semantic_factor = golden["r"]};
  }
  const Json& parameters = golden["parameters"];
  return {.token_budget = parameters["token_budget"],
          .semantic_factor = parameters["semantic_factor"]};
}

void ExpectSame(const Json& golden, const PaperRun& run) {
  const Json& kept = golden["kept_positions"];
  ASSERT_EQ(kept.size(), run.attended[0].size());
  for (size_t layer = 0; layer < kept.size(); ++layer) {
    ASSERT_EQ(kept[layer].size(), run.attended[0][layer].size());
    for (size_t head = 0; head < kept[layer].size(); ++head) {
      EXPECT_EQ(run.Kept(layer, head), kept[layer][head].get<Tokens>())
          << "kept, layer " << layer << " head " << head;
    }
  }
  EXPECT_GT(golden["attended_positions"].size(), 5u);
  for (const auto& [step, layers] : golden["attended_positions"].items()) {
    const auto& attended = run.attended.at(std::stoul(step));
    for (size_t layer = 0; layer < layers.size(); ++layer) {
      for (size_t head = 0; head < layers[layer].size(); ++head) {
        EXPECT_EQ(attended[layer][head], layers[layer][head].get<Tokens>())
            << "read, step " << step << " layer " << layer << " head " << head;
      }
    }
  }
}

TEST_P(GoldenPaper, KeepsReadsAndSaysTheSame) {
  const auto file = SharedPath(std::string("golden/") + GetParam() + ".json");
  SKV_SKIP_WITHOUT(file, GetParam());
  const Json golden = Json::parse(std::ifstream(*file));
  const std::string name = golden["model"];
  const auto model = SharedPath("models/" + name.substr(name.rfind('/') + 1));
  SKV_SKIP_WITHOUT(model, name);
  ModelRunnerOptions options;
  options.num_pages = 128;
  // One of the texts is longer than the model was made for.
  options.context_length = 1024;
  options.load.max_tokens_per_step = 512;
  PaperRunner runner(*model, golden["sentence_end_ids"].get<Tokens>(), options);
  const Tokens ids = golden["generated_ids"];
  const PaperRun run = runner.Run(
      OptionsOf(golden), golden["prompt_ids"].get<Tokens>(), ids.size());
  EXPECT_EQ(run.ids, ids);
  ExpectSame(golden, run);
  for (size_t step = 0; step < ids.size(); ++step) {
    for (const Json& top : golden["top5_logits"][step]) {
      ASSERT_NEAR(run.logits[step][top[0].get<size_t>()], top[1].get<float>(),
                  0.01)
          << "step " << step;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Files, GoldenPaper,
    testing::Values("release/stories260k-mha-sentencekv-allkept",
                    "release/stories260k-mha-sentencekv-long-generated",
                    "release/stories260k-mha-sentencekv-r3",
                    "release/stories260k-mha-sentencekv-release",
                    "release/stories260k-mha-sentencekv-short-prompt",
                    "release/stories260k-mha-sentencekv-wide",
                    "stories260k-mha-sentence-paper",
                    "stories260k-sentence-paper"),
    [](const testing::TestParamInfo<const char*>& info) {
      std::string name = info.param;
      for (char& c : name) c = std::isalnum(c) ? c : '_';
      return name;
    });

TEST(GoldenPaperTokens, EndsAreThoseOfTheVocabulary) {
  const auto model = SharedPath("models/stories260k");
  const auto file = SharedPath("golden/stories260k-sentence-paper.json");
  SKV_SKIP_WITHOUT(model, "models/stories260k");
  SKV_SKIP_WITHOUT(file, "golden/stories260k-sentence-paper.json");
  const auto loaded = LoadTokenizerFolder(*model);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  Tokens ends = PaperSentenceEnds(*loaded->tokenizer);
  std::ranges::sort(ends);
  EXPECT_EQ(
      ends,
      Json::parse(std::ifstream(*file))["sentence_end_ids"].get<Tokens>());
}

}  // namespace
}  // namespace sentencekv
