// Scoring sentences, choosing among them and listing their pages, as a decode
// step does for each layer and KV head: policy `sentence`, budget 1,024.
//
//   selection_bench
//
// Arguments of a benchmark: sentences of the context, 8 to 31 tokens each.
#include <cmath>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "benchmark/benchmark.h"
#include "cache/sentence_selection.h"
#include "cache/sentence_settings.h"
#include "kernels/check.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/sentence_block.h"

namespace sentencekv {
namespace {

struct Context {
  std::vector<int32_t> ends;
  std::vector<float> scores;  // of three softmaxes, some sentences stand out
  SentenceSpans spans;
};

Context MakeContext(int64_t num_sentences) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  Context context;
  int32_t end = 0;
  float total = 0;
  for (int64_t i = 0; i < num_sentences; ++i) {
    context.ends.push_back(end += 8 + static_cast<int32_t>(random() % 24));
    context.scores.push_back(std::exp(2 * normal(random)));
    total += context.scores.back();
  }
  for (float& score : context.scores) score *= 3 / total;
  context.spans = {context.ends, end + 10};
  return context;
}

// An index of bytes drawn at random: what it says does not matter to the time.
// Three query heads of 64, one thread. `budget`: whose signs are looked at; 0:
// all are.
void Score(benchmark::State& state, SentenceIndexKind kind, int64_t budget) {
  constexpr int64_t kHeads = 3;
  constexpr int64_t kDim = 64;
  const Context context = MakeContext(state.range(0));
  const auto count = std::ssize(context.ends);
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const auto fill = [&](int64_t size) {
    std::vector<std::byte> bytes(static_cast<size_t>(size));
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    return bytes;
  };
  std::vector<std::byte> blocks =
      fill(SentenceBlocks(count) * SentenceBlockBytes(kind, kDim));
  const int64_t vector_bytes = SentenceVectorBytes(kDim);
  for (int64_t v = 0; v < std::ssize(blocks) / vector_bytes; ++v) {
    const std::vector<float> units(kBlockEntries, 0.02f);
    std::memcpy(blocks.data() + v * vector_bytes + kBlockEntries * kDim,
                units.data(), units.size() * sizeof(float));
  }
  const std::vector<std::byte> signs =
      fill((context.spans.num_tokens / kPageTokens + 1) * SignStripBytes(kDim));
  std::vector<float> scores(context.ends.size());
  std::vector<float> q(kHeads * kDim);
  for (float& x : q) x = normal(random);
  const auto backend = MakeCpuBackend({.num_threads = 1});
  SKV_CHECK(backend.ok());
  const SentenceScoreItem item = {
      .kind = kind,
      .q = q.data(),
      .blocks = blocks.data(),
      .num_entries = count,
      .prior = context.scores.data(),
      .scores = scores.data(),
      .signs = signs.data(),
      .ends = context.ends.data(),
      .num_refined = budget == 0 ? 0 : NumRefined(budget)};
  for (auto _ : state) {
    SKV_CHECK((*backend)
                  ->ScoreSentences({.items = &item,
                                    .num_items = 1,
                                    .num_heads = kHeads,
                                    .head_dim = kDim,
                                    .scale = 0.125f})
                  .ok());
    benchmark::DoNotOptimize(scores.data());
  }
}
BENCHMARK_CAPTURE(Score, mean, SentenceIndexKind::kMean, 0)->Arg(420);
BENCHMARK_CAPTURE(Score, sign, SentenceIndexKind::kSign, 0)->Arg(420);
BENCHMARK_CAPTURE(Score, sign_of_best, SentenceIndexKind::kSign, 1024)
    ->Arg(200)
    ->Arg(420)
    ->Arg(1700);

void Choose(benchmark::State& state) {
  Context context = MakeContext(state.range(0));
  std::mt19937 random(2);
  std::normal_distribution<float> normal(1.0f, 0.01f);
  SentenceSelector selector;
  const SelectionLimits limits = {.budget = 1024};
  for (auto _ : state) {
    // Another step: what is learnt of the last one's branches does not help.
    state.PauseTiming();
    for (float& score : context.scores) score *= normal(random);
    state.ResumeTiming();
    benchmark::DoNotOptimize(
        selector.ChooseSentences(limits, context.spans, context.scores));
  }
}
BENCHMARK(Choose)->Arg(200)->Arg(420)->Arg(1700);

void ListPages(benchmark::State& state) {
  const Context context = MakeContext(state.range(0));
  SentenceSelector selector;
  const SelectionLimits limits = {.budget = 1024};
  const auto chosen =
      selector.ChooseSentences(limits, context.spans, context.scores);
  ChosenPages pages;
  for (auto _ : state) {
    selector.ListPages(limits, context.spans, chosen, &pages);
    benchmark::DoNotOptimize(pages.num_tokens);
  }
}
BENCHMARK(ListPages)->Arg(200)->Arg(420)->Arg(1700);

}  // namespace
}  // namespace sentencekv

BENCHMARK_MAIN();
