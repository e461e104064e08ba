// Tokens per second of the model alone, the way llama-bench measures its own:
// steps of one sequence, no tokenizer and no network.
//
//   engine_bench --model PATH [--threads N] [--cpu_level NAME]
//                [--repetitions N] [--step_tokens N] WORK...
//
// WORK is prefill:TOKENS or decode:DEPTH:TOKENS (TOKENS generated after DEPTH
// that are there already; 0 begins with one). Prints one JSON object a line:
// {"work", "tokens_per_second": [one number for each repetition]}.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "cache/page_pool.h"
#include "nlohmann/json.hpp"
#include "tests/support/model_runner.h"

namespace sentencekv {
namespace {

struct Work {
  std::string name;
  bool decode = false;
  int64_t depth = 0;
  int64_t num_tokens = 0;
};

struct BenchOptions {
  std::string model;
  int threads = 2;
  std::string cpu_level;
  int repetitions = 3;
  int64_t step_tokens = 256;  // the daemon's default
  std::vector<std::string> works;
};

// False for what is neither prefill:N nor decode:D:N.
bool ParseWork(const std::string& text, Work* work) {
  work->name = text;
  long long depth = 0;
  long long num_tokens = 0;
  int end = 0;
  if (std::sscanf(text.c_str(), "prefill:%lld%n", &num_tokens, &end) == 1) {
    work->decode = false;
  } else if (std::sscanf(text.c_str(), "decode:%lld:%lld%n", &depth,
                         &num_tokens, &end) == 2) {
    work->decode = true;
  }
  work->depth = depth;
  work->num_tokens = num_tokens;
  return end == static_cast<int>(text.size()) && num_tokens > 0 && depth >= 0;
}

// Any tokens do: the time does not depend on which. From a linear congruential
// generator, so that rows of the embedding are not all the same.
std::vector<int32_t> SomeTokens(int64_t count, int64_t vocab_size) {
  std::vector<int32_t> tokens(count);
  uint64_t state = 1;
  for (int32_t& token : tokens) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    token = static_cast<int32_t>((state >> 33) % vocab_size);
  }
  return tokens;
}

// Feeds the tokens in steps of at most `step_tokens`; logits of the last one
// only, as a server wants them. Returns the token that follows.
int32_t Prefill(ModelRunner& runner, size_t sequence,
                const std::vector<int32_t>& tokens, int64_t step_tokens) {
  const std::span<const int32_t> all = tokens;
  int32_t next = 0;
  for (size_t begin = 0; begin < all.size(); begin += step_tokens) {
    const auto chunk =
        all.subspan(begin, std::min<size_t>(step_tokens, all.size() - begin));
    const bool last = begin + chunk.size() == all.size();
    const auto logits = runner.Step(sequence, chunk, last ? 1 : 0);
    if (last) next = Greedy(logits.front());
  }
  return next;
}

// Tokens per second of one run of `work` on a fresh sequence.
double Measure(ModelRunner& runner, const Work& work, int64_t step_tokens) {
  const int64_t vocab_size = runner.model().info().vocab_size;
  const size_t sequence = runner.Add();
  const auto prompt = SomeTokens(
      work.decode ? std::max<int64_t>(work.depth, 1) : work.num_tokens,
      vocab_size);
  auto started = std::chrono::steady_clock::now();
  int32_t token = Prefill(runner, sequence, prompt, step_tokens);
  if (work.decode) {
    started = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < work.num_tokens; ++i) {
      token = Greedy(runner.Step(sequence, std::span(&token, 1)).front());
    }
  }
  const std::chrono::duration<double> elapsed =
      std::chrono::steady_clock::now() - started;
  runner.pool().Release(runner.sequence(sequence).pages);
  runner.sequence(sequence).pages.clear();
  return static_cast<double>(work.num_tokens) / elapsed.count();
}

int RunBench(const BenchOptions& options) {
  std::vector<Work> works;
  int64_t longest = 0;
  for (const std::string& text : options.works) {
    Work work;
    if (!ParseWork(text, &work)) {
      std::fprintf(stderr, "engine_bench: not a piece of work: %s\n",
                   text.c_str());
      return 2;
    }
    longest = std::max(longest, work.depth + work.num_tokens + 1);
    works.push_back(work);
  }
  ModelRunnerOptions runner_options;
  runner_options.num_pages = PagesFor(longest);
  runner_options.kv_dtype = DType::kF16;
  runner_options.num_threads = options.threads;
  runner_options.cpu_level = options.cpu_level;
  runner_options.load.max_tokens_per_step = options.step_tokens;
  ModelRunner runner(options.model, runner_options);
  Measure(runner, {.num_tokens = 64}, options.step_tokens);  // warms up
  for (const Work& work : works) {
    std::vector<double> rates;
    for (int i = 0; i < options.repetitions; ++i) {
      rates.push_back(Measure(runner, work, options.step_tokens));
    }
    const nlohmann::json line = {{"work", work.name},
                                 {"tokens_per_second", rates}};
    std::printf("%s\n", line.dump().c_str());
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace sentencekv

int main(int argc, char** argv) {
  sentencekv::BenchOptions options;
  CLI::App app("Tokens per second of the model alone");
  app.add_option("--model", options.model)->required();
  app.add_option("--threads", options.threads)->check(CLI::Range(1, 1024));
  app.add_option("--cpu_level", options.cpu_level);
  app.add_option("--repetitions", options.repetitions)
      ->check(CLI::Range(1, 1000));
  app.add_option("--step_tokens", options.step_tokens)
      ->check(CLI::Range(1, 65536));
  app.add_option("work", options.works)->required();
  CLI11_PARSE(app, argc, argv);
  return sentencekv::RunBench(options);
}
