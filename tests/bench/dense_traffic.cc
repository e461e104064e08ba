#include "tests/bench/dense_traffic.h"

#include <fmt/format.h>

#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "kernels/cuda/bf16_matrix.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/cuda/simulated_cublas_lt.h"

namespace sentencekv {
namespace {

using Shape = LlamaShape;

// Exact attention is run up to here.
constexpr int64_t kMostTokensRun = 4096;

// The CUDA backend on a fresh simulated device.
class CountedBackend {
 public:
  CountedBackend() {
    const CublasLtTable table = SimulatedCublasLt();
    backend_ = Must(MakeCudaBackend({.cublas_lt = &table,
                                     .device_memory_bytes = size_t{1} << 30,
                                     .mark_block = &cuda_sim::MarkBlock,
                                     .product_bytes = 0}));
  }
  Backend& operator*() { return *backend_; }
  Backend* operator->() { return backend_.get(); }

  Buffer Floats(int64_t count) {
    return Must(backend_->Allocate(count * sizeof(float)));
  }
  OperationCounts Count(const std::function<absl::Status()>& operation) {
    Must(backend_->Synchronize());
    return CountsOf([&] {
      Must(operation());
      Must(backend_->Synchronize());
    });
  }

 private:
  CountedDevice device_;
  std::unique_ptr<Backend> backend_;
};

// The operations of a step, each counted.
class DenseStep {
 public:
  explicit DenseStep(int64_t num_rows)
      : num_rows_(num_rows),
        hidden_(backend_.Floats(num_rows * Shape::kWidth)),
        weight_(backend_.Floats(Shape::kWidth)),
        wide_(backend_.Floats(num_rows * 2 * Shape::kFfnWidth)),
        activated_(backend_.Floats(num_rows * Shape::kFfnWidth)),
        cos_sin_(backend_.Floats(num_rows * Shape::kHeadDim)) {}

  DenseCounts Count() {
    Layer();
    DenseCounts counts = {std::move(counts_), {}};
    counts_.clear();
    Outside();
    counts.outside = std::move(counts_);
    return counts;
  }

 private:
  void Add(const std::function<absl::Status()>& operation) {
    AddCounts(backend_.Count(operation), &counts_);
  }

  // LlamaModel::RunLayer.
  void Layer() {
    Norm();
    Product(Shape::kQkvWidth, Shape::kWidth, false);
    StoreKv();
    Product(Shape::kWidth, Shape::kHeads * Shape::kHeadDim, true);
    Norm();
    Product(2 * Shape::kFfnWidth, Shape::kWidth, false);
    Add([&] {
      return backend_->SwiGlu({.gate_up = wide_.as<float>(),
                               .out = activated_.as<float>(),
                               .num_rows = num_rows_,
                               .width = Shape::kFfnWidth});
    });
    Product(Shape::kWidth, Shape::kFfnWidth, true);
  }

  // LlamaModel::Forward and ComputeLogits.
  void Outside();

  void Norm() {
    Add([&] {
      return backend_->RmsNorm({.x = hidden_.as<float>(),
                                .weight = weight_.as<float>(),
                                .out = hidden_.as<float>(),
                                .num_rows = num_rows_,
                                .width = Shape::kWidth,
                                .epsilon = 1e-5f});
    });
  }

  // The rounding of x is a launch of its own. What the product does to memory
  // its shape says: a matrix of few rows is run, to see that it does.
  void Product(int64_t rows, int64_t cols, bool accumulate) {
    constexpr int64_t kRowsRun = 16;
    const WeightMatrix weight = Matrix(kRowsRun, cols);
    OperationCounts counts = backend_.Count([&] {
      return backend_->MatMul({.weight = &weight,
                               .x = activated_.as<float>(),
                               .out = wide_.as<float>(),
                               .num_rows = num_rows_,
                               .accumulate = accumulate});
    });
    const auto expected = ProductTraffic(kRowsRun, cols, accumulate);
    for (cuda_sim::OperationCount& count : counts) {
      if (count.name != expected.name) continue;
      if (count.bytes_read != expected.bytes_read ||
          count.bytes_written != expected.bytes_written) {
        FailCounting("a product is not what its shape says");
      }
      count = ProductTraffic(rows, cols, accumulate);
    }
    AddCounts(counts, &counts_);
  }
  // Of out = x w^T (+ out), w [rows, cols].
  cuda_sim::OperationCount ProductTraffic(int64_t rows, int64_t cols,
                                          bool accumulate) const {
    const int64_t out_bytes = 4 * rows * num_rows_;
    return {.name = "matmul",
            .launches = 1,
            .bytes_read =
                2 * cols * (rows + num_rows_) + (accumulate ? out_bytes : 0),
            .bytes_written = out_bytes};
  }

  WeightMatrix Matrix(int64_t rows, int64_t cols) {
    return {.format = WeightFormat::kBF16,
            .rows = rows,
            .cols = cols,
            .data = Must(backend_->Allocate(Bf16MatrixBytes(rows, cols)))};
  }

  // Each sequence writes to a page of its own, which is then copied to the
  // pool, as KvMemory::Save does.
  void StoreKv();

  CountedBackend backend_;
  const int64_t num_rows_;
  const Buffer hidden_;  // [T, M]
  const Buffer weight_;  // [M]
  const Buffer wide_;    // [T, 2 F]
  const Buffer activated_;
  const Buffer cos_sin_;
  OperationCounts counts_;
};

void DenseStep::StoreKv() {
  const KvLayout layout = LayerPages(num_rows_);
  const Buffer pages = Must(backend_->Allocate(layout.total_bytes()));
  const Buffer pool = Must(backend_->AllocateHost(layout.total_bytes()));
  std::vector<int32_t> numbers(static_cast<size_t>(num_rows_));
  std::iota(numbers.begin(), numbers.end(), 0);
  std::vector<KvSequence> sequences;
  std::vector<CopyRun> saved;
  const auto page_bytes = static_cast<size_t>(layout.page_bytes());
  for (int64_t i = 0; i < num_rows_; ++i) {
    sequences.push_back(
        {.row_begin = i, .num_rows = 1, .position = 0, .pages = &numbers[i]});
    saved.push_back({pool.as<std::byte>() + i * page_bytes,
                     pages.as<std::byte>() + i * page_bytes, page_bytes});
  }
  Add([&] {
    return backend_->RopeStoreKv({.qkv = wide_.as<float>(),
                                  .cos_sin = cos_sin_.as<float>(),
                                  .kv = {pages.as<std::byte>(), layout},
                                  .sequences = sequences.data(),
                                  .num_sequences = num_rows_,
                                  .num_heads = Shape::kHeads,
                                  .rotary_dims = Shape::kHeadDim,
                                  .layout = RopeLayout::kHalves});
  });
  Add([&] { return backend_->Transfer(DeviceStream::kToHost, saved); });
}

void DenseStep::Outside() {
  const std::vector<int32_t> tokens(static_cast<size_t>(num_rows_), 7);
  std::vector<int32_t> rows(static_cast<size_t>(num_rows_));
  std::iota(rows.begin(), rows.end(), 0);
  const WeightMatrix table = Matrix(8, Shape::kWidth);
  Add([&] {
    return backend_->Embed({.table = &table,
                            .tokens = tokens.data(),
                            .out = hidden_.as<float>(),
                            .num_tokens = num_rows_});
  });
  Add([&] {
    return backend_->RopeTable({.positions = tokens.data(),
                                .inverse_frequency = weight_.as<float>(),
                                .cos_sin = cos_sin_.as<float>(),
                                .num_tokens = num_rows_,
                                .half_dims = Shape::kHeadDim / 2});
  });
  Add([&] {
    return backend_->GatherRows({.x = hidden_.as<float>(),
                                 .rows = rows.data(),
                                 .out = wide_.as<float>(),
                                 .num_rows = num_rows_,
                                 .width = Shape::kWidth});
  });
  Norm();
  Product(Shape::kVocabulary, Shape::kWidth, false);
  const Buffer logits = backend_.Floats(num_rows_ * Shape::kVocabulary);
  std::vector<float> host_logits(
      static_cast<size_t>(num_rows_ * Shape::kVocabulary));
  Add([&] {
    return backend_->CopyToHost(host_logits.data(), logits.data(),
                                logits.size_bytes());
  });
}

OperationCounts RunFullAttention(int64_t num_tokens) {
  CountedBackend backend;
  const KvLayout layout = LayerPages(num_tokens / kPageTokens);
  const Buffer qkv = backend.Floats(Shape::kQkvWidth);
  const Buffer out = backend.Floats(Shape::kHeads * Shape::kHeadDim);
  const Buffer pages = Must(backend->Allocate(layout.total_bytes()));
  std::vector<int32_t> numbers(static_cast<size_t>(layout.num_pages));
  std::iota(numbers.begin(), numbers.end(), 0);
  const KvSequence sequence = {
      .num_rows = 1, .position = num_tokens - 1, .pages = numbers.data()};
  return backend.Count([&] {
    return backend->Attention({.qkv = qkv.as<float>(),
                               .out = out.as<float>(),
                               .kv = {pages.as<std::byte>(), layout},
                               .sequences = &sequence,
                               .num_sequences = 1,
                               .num_heads = Shape::kHeads,
                               .scale = 0.088f});
  });
}

}  // namespace

DenseCounts CountDense(int64_t num_rows) { return DenseStep(num_rows).Count(); }

OperationCounts CountFullAttention(int64_t num_tokens) {
  if (num_tokens <= kMostTokensRun) return RunFullAttention(num_tokens);
  constexpr int64_t kFirst = kMostTokensRun / 4;
  constexpr int64_t kMiddle = kMostTokensRun / 2;
  const OperationCounts first = RunFullAttention(kFirst);
  const OperationCounts middle = RunFullAttention(kMiddle);
  OperationCounts last = RunFullAttention(kMostTokensRun);
  for (cuda_sim::OperationCount& count : last) {
    const auto at_first = CountOf(first, count.name);
    const auto at_middle = CountOf(middle, count.name);
    for (int64_t cuda_sim::OperationCount::*number :
         {&cuda_sim::OperationCount::launches,
          &cuda_sim::OperationCount::bytes_read,
          &cuda_sim::OperationCount::bytes_written,
          &cuda_sim::OperationCount::host_bytes_read,
          &cuda_sim::OperationCount::host_bytes_written}) {
      const int64_t rise = count.*number - at_first.*number;
      const auto on_line = [&](int64_t tokens) {
        return at_first.*number +
               rise * (tokens - kFirst) / (kMostTokensRun - kFirst);
      };
      if (on_line(kMiddle) != at_middle.*number) {
        FailCounting(fmt::format("{} is not linear in the tokens", count.name));
      }
      count.*number = on_line(num_tokens);
    }
  }
  return last;
}

}  // namespace sentencekv
