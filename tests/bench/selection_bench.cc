// Choosing among scored sentences and listing their pages, as a decode step
// does for each layer and KV head: policy `sentence`, budget 1,024.
//
//   selection_bench
//
// Arguments of a benchmark: sentences of the context, 8 to 31 tokens each.
#include <cmath>
#include <random>
#include <span>
#include <vector>

#include "benchmark/benchmark.h"
#include "cache/sentence_selection.h"

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
