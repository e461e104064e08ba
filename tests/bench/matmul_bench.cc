// The matrix products of SmolLM2-135M without the rest of the model: 30 layers
// of 576 x 1536 in 4 bits and the 49,152-row output matrix in 8 bits, each
// matrix distinct in memory (97 MB in all), so that decoding reads as much as
// a model does.
//
//   matmul_bench --benchmark_filter=Decode
//
// Arguments of a benchmark: level (0 portable, 1 avx2, 2 avx512), threads,
// rows. Rates are tokens a second.
#include <memory>
#include <vector>

#include "benchmark/benchmark.h"
#include "kernels/check.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/support/random_matrix.h"

namespace sentencekv {
namespace {

constexpr int64_t kWidth = 576;
constexpr int64_t kQkvRows = 960;
constexpr int64_t kFeedForward = 1536;
constexpr int64_t kLayers = 30;
constexpr int64_t kVocabulary = 49152;

struct Layer {
  WeightMatrix qkv;
  WeightMatrix o;
  WeightMatrix gate_up;
  WeightMatrix down;
};

struct Model {
  std::unique_ptr<Backend> backend;
  std::vector<Layer> layers;
  WeightMatrix output;
};

WeightMatrix Pack(Backend& backend, SourceType type, int64_t rows,
                  int64_t cols) {
  const RandomMatrix matrix(type, rows, cols, 1);
  const MatrixSource source = matrix.source();
  auto packed = backend.PackWeights({&source, 1});
  SKV_CHECK(packed.ok());
  return std::move(packed).value();
}

// The weights do not depend on the level, but belong to a backend.
Model MakeModel(CpuLevel level, int num_threads) {
  Model model;
  auto backend = MakeCpuBackend({.num_threads = num_threads, .level = level});
  SKV_CHECK(backend.ok());
  model.backend = std::move(backend).value();
  for (int64_t i = 0; i < kLayers; ++i) {
    Backend& b = *model.backend;
    model.layers.push_back(
        {.qkv = Pack(b, SourceType::kQ4_1, kQkvRows, kWidth),
         .o = Pack(b, SourceType::kQ4_1, kWidth, kWidth),
         .gate_up = Pack(b, SourceType::kQ4_1, 2 * kFeedForward, kWidth),
         .down = Pack(b, SourceType::kQ4_1, kWidth, kFeedForward)});
  }
  model.output = Pack(*model.backend, SourceType::kQ8_0, kVocabulary, kWidth);
  return model;
}

class Activations {
 public:
  explicit Activations(int64_t rows)
      : rows_(rows),
        in_(RandomFloats(rows * kFeedForward, 2)),
        out_(static_cast<size_t>(
            std::max(rows * 2 * kFeedForward, kVocabulary))) {}

  void Multiply(Backend& backend, const WeightMatrix& weight, int64_t rows) {
    SKV_CHECK(backend
                  .MatMul({.weight = &weight,
                           .x = in_.data(),
                           .out = out_.data(),
                           .num_rows = rows})
                  .ok());
  }
  void RunLayers(Model& model) {
    for (Layer& layer : model.layers) {
      Multiply(*model.backend, layer.qkv, rows_);
      Multiply(*model.backend, layer.o, rows_);
      Multiply(*model.backend, layer.gate_up, rows_);
      Multiply(*model.backend, layer.down, rows_);
    }
  }

 private:
  int64_t rows_;
  std::vector<float> in_;
  std::vector<float> out_;
};

bool SkipMissingLevel(benchmark::State& state) {
  if (static_cast<CpuLevel>(state.range(0)) <= DetectCpuLevel()) return false;
  state.SkipWithError("this machine does not have the level");
  return true;
}

// One token a step: the layers and the output matrix.
void BM_Decode(benchmark::State& state) {
  if (SkipMissingLevel(state)) return;
  Model model = MakeModel(static_cast<CpuLevel>(state.range(0)),
                          static_cast<int>(state.range(1)));
  Activations activations(1);
  for (auto _ : state) {
    activations.RunLayers(model);
    activations.Multiply(*model.backend, model.output, 1);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_Decode)
    ->ArgsProduct({{0, 1, 2}, {1, 2}})
    ->ArgNames({"level", "threads"})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

// A chunk of a prompt: the layers.
void BM_Prefill(benchmark::State& state) {
  if (SkipMissingLevel(state)) return;
  Model model = MakeModel(static_cast<CpuLevel>(state.range(0)),
                          static_cast<int>(state.range(1)));
  Activations activations(state.range(2));
  for (auto _ : state) activations.RunLayers(model);
  state.SetItemsProcessed(state.iterations() * state.range(2));
}
BENCHMARK(BM_Prefill)
    ->ArgsProduct({{0, 1, 2}, {1, 2}, {2, 4, 6, 16, 512}})
    ->ArgNames({"level", "threads", "rows"})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace sentencekv

BENCHMARK_MAIN();
