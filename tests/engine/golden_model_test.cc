// The network against values of independent implementations, on real models.
// Skipped, by name, where a model or the values are not there.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/support/model_runner.h"
#include "tests/support/test_files.h"

namespace sentencekv {
namespace {

using Json = nlohmann::json;

Json ReadJson(const std::string& path) {
  std::ifstream file(path);
  return Json::parse(file);
}

using Tokens = std::vector<int32_t>;

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
    runner.pool().Release(runner.sequence(sequence).pages);
  }
  EXPECT_GT(steps, 100u);
}

}  // namespace
}  // namespace sentencekv
