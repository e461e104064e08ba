// Tokens per second of the model alone, the way llama-bench measures its own:
// steps of one sequence, no tokenizer and no network.
//
//   engine_bench --model PATH | --random_weights CONFIG [--backend cpu|cuda]
//                [--threads N] [--cpu_level NAME] [--repetitions N]
//                [--step_tokens N] WORK...
//
// WORK is prefill:TOKENS or decode:DEPTH:TOKENS (TOKENS generated after DEPTH
// that are there already; 0 begins with one), under the policy full; with
// @BUDGET[,KIND] behind it under the policy sentence. Repetitions of all works
// take turns, so that their ratio is that of one run. A depth may be more than
// the model was trained for. Prints one JSON object a line:
// {"work", "tokens_per_second": [one number for each repetition]}.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "cache/page_pool.h"
#include "cache/sentence_policy.h"
#include "engine/checkpoint.h"
#include "engine/checkpoint_tokenizer.h"
#include "engine/random_checkpoint.h"
#include "nlohmann/json.hpp"
#include "tests/support/model_runner.h"
#ifdef SENTENCEKV_HAS_CUDA
#include "kernels/cuda/cuda_backend.h"
#endif

namespace sentencekv {
namespace {

struct Work {
  std::string name;
  bool decode = false;
  int64_t depth = 0;
  int64_t num_tokens = 0;
  std::optional<KvOptions> sentence;  // of the policy sentence
};

struct BenchOptions {
  std::string model;
  std::string random_weights;  // a config.json, instead of model
  std::string backend = "cpu";
  int threads = 2;
  std::string cpu_level;
  int repetitions = 3;
  int64_t step_tokens = 256;  // the daemon's default
  std::vector<std::string> works;
};

// Of "BUDGET" or "BUDGET,KIND".
std::optional<KvOptions> ParseSentence(const std::string& text) {
  KvOptions options;
  options.dense_tokens = 0;
  const size_t comma = text.find(',');
  options.token_budget = std::atoll(text.substr(0, comma).c_str());
  if (comma != std::string::npos) {
    const auto kind = ParseSentenceIndexKind(text.substr(comma + 1));
    if (!kind.ok()) return std::nullopt;
    options.index_kind = *kind;
  }
  if (options.token_budget <= 0) return std::nullopt;
  return options;
}

// False for what is no work.
bool ParseWork(std::string text, Work* work) {
  work->name = text;
  if (const size_t at = text.find('@'); at != std::string::npos) {
    work->sentence = ParseSentence(text.substr(at + 1));
    if (!work->sentence.has_value()) return false;
    text.resize(at);
  }
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
double Measure(ModelRunner& runner, KvPolicy& sentence_policy, const Work& work,
               int64_t step_tokens) {
  const int64_t vocab_size = runner.model().info().vocab_size;
  const int64_t num_prompt =
      work.decode ? std::max<int64_t>(work.depth, 1) : work.num_tokens;
  const size_t sequence =
      work.sentence.has_value()
          ? runner.Add(sentence_policy, *work.sentence, num_prompt)
          : runner.Add();
  const auto prompt = SomeTokens(num_prompt, vocab_size);
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
  runner.End(sequence);
  runner.sequence(sequence).pages.clear();
  runner.sequence(sequence).policy_state.reset();
  return static_cast<double>(work.num_tokens) / elapsed.count();
}

std::unique_ptr<Backend> MakeCudaOrExit() {
#ifdef SENTENCEKV_HAS_CUDA
  auto backend = MakeCudaBackend({});
#else
  absl::StatusOr<std::unique_ptr<Backend>> backend =
      absl::FailedPreconditionError("built without the CUDA backend");
#endif
  if (backend.ok()) return *std::move(backend);
  std::fprintf(stderr, "engine_bench: %s\n",
               std::string(backend.status().message()).c_str());
  std::exit(5);  // as the daemon does
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
  runner_options.context_length = longest;
  runner_options.random_weights = !options.random_weights.empty();
  const std::string& path =
      runner_options.random_weights ? options.random_weights : options.model;
  const auto checkpoint = runner_options.random_weights
                              ? MakeRandomCheckpoint(path)
                              : OpenCheckpoint(path);
  const auto config =
      checkpoint.ok() ? checkpoint->Config() : checkpoint.status();
  const auto tokenizer = config.ok()
                             ? LoadCheckpointTokenizer(*checkpoint, *config)
                             : config.status();
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "engine_bench: %s\n",
                 tokenizer.status().ToString().c_str());
    return 1;
  }
  if (options.backend == "cuda") {
    runner_options.make_backend = MakeCudaOrExit;
    // Room for K and V of all layers: nothing is copied back.
    runner_options.num_frames = runner_options.num_pages * config->num_layers;
  }
  ModelRunner runner(path, runner_options);
  const ModelInfo& info = runner.model().info();
  const auto policy =
      MakeSentencePolicy({.tokenizer = tokenizer->tokenizer.get(),
                          .shape = {.num_layers = info.num_layers,
                                    .num_heads = info.num_heads,
                                    .num_kv_heads = info.num_kv_heads,
                                    .head_dim = info.head_dim}});
  Measure(runner, *policy, {.num_tokens = 64},
          options.step_tokens);  // warms up
  std::vector<std::vector<double>> rates(works.size());
  for (int i = 0; i < options.repetitions; ++i) {
    for (size_t j = 0; j < works.size(); ++j) {
      rates[j].push_back(
          Measure(runner, *policy, works[j], options.step_tokens));
    }
  }
  for (size_t j = 0; j < works.size(); ++j) {
    const nlohmann::json line = {{"work", works[j].name},
                                 {"tokens_per_second", rates[j]}};
    std::printf("%s\n", line.dump().c_str());
  }
  return 0;
}

}  // namespace
}  // namespace sentencekv

int main(int argc, char** argv) {
  sentencekv::BenchOptions options;
  CLI::App app("Tokens per second of the model alone");
  auto* sources = app.add_option_group("Model")->require_option(1);
  sources->add_option("--model", options.model);
  sources->add_option("--random_weights", options.random_weights);
  app.add_option("--backend", options.backend)
      ->check(CLI::IsMember({"cpu", "cuda"}));
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
