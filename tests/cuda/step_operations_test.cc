// Backend::RunStep on the CUDA backend: what is launched as a graph gives the
// bits of the same operations issued one by one, for steps of any rows.
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "fmt/format.h"
#include "gtest/gtest.h"
#include "tests/cuda/backend_under_test.h"
#include "tests/support/random_matrix.h"

namespace sentencekv {
namespace {

constexpr int64_t kMostRows = 6;
constexpr int64_t kVocabulary = 40;
constexpr int64_t kWidth = 32;
constexpr int64_t kHeads = 2;
constexpr int64_t kDim = 16;
constexpr int64_t kQkvWidth = (kHeads + 2) * kDim;  // one KV head
constexpr KvLayout kLayout = {.num_layers = 1,
                              .num_pages = 8,
                              .num_kv_heads = 1,
                              .head_dim = kDim,
                              .dtype = DType::kBF16};

// What the host says of a step; row i writes to page pages[i].
struct Rows {
  std::vector<int32_t> tokens;
  std::vector<int32_t> positions;
  std::vector<int32_t> pages;
  std::vector<int32_t> gathered;

  int64_t count() const { return std::ssize(tokens); }
};

class StepOperationsTest : public CudaBackendTest {
 protected:
  // The memory that steps work in.
  struct Memory {
    Buffer hidden;    // [kMostRows, kWidth]
    Buffer qkv;       // [kMostRows, kQkvWidth]
    Buffer cos_sin;   // [kMostRows, kDim]
    Buffer gathered;  // [kMostRows, kQkvWidth]
    Buffer pool;
  };

  void SetUp() override {
    CudaBackendTest::SetUp();
    if (backend_ == nullptr) return;
    const RandomMatrix table(SourceType::kBF16, kVocabulary, kWidth, 1);
    const RandomMatrix matrix(SourceType::kBF16, kQkvWidth, kWidth, 2);
    const MatrixSource table_source = table.source();
    const MatrixSource matrix_source = matrix.source();
    table_ = backend_->PackWeights({&table_source, 1}).value();
    matrix_ = backend_->PackWeights({&matrix_source, 1}).value();
    norm_ = Upload(RandomFloats(kWidth, 3));
    frequency_ = Upload(std::vector<float>(kDim / 2, 0.5f));
  }
  void TearDown() override {
    table_ = WeightMatrix();
    matrix_ = WeightMatrix();
    norm_ = Buffer();
    frequency_ = Buffer();
    CudaBackendTest::TearDown();
  }

  Memory MakeMemory() {
    const auto floats = [&](int64_t count) {
      return Upload(std::vector<float>(static_cast<size_t>(count), -1.0f));
    };
    return {
        floats(kMostRows * kWidth), floats(kMostRows * kQkvWidth),
        floats(kMostRows * kDim), floats(kMostRows * kQkvWidth),
        Upload(std::vector<std::byte>(kLayout.total_bytes(), std::byte{0x35}))};
  }
  absl::Status Issue(const Rows& rows, const Memory& memory);
  // Of rows that there are.
  void ExpectSame(const Rows& rows, const Memory& a, const Memory& b);

  WeightMatrix table_;
  WeightMatrix matrix_;
  Buffer norm_;
  Buffer frequency_;
};

INSTANTIATE_TEST_SUITE_P(Seeds, StepOperationsTest,
                         testing::ValuesIn(DeviceSeeds()));

absl::Status StepOperationsTest::Issue(const Rows& rows, const Memory& memory) {
  const int64_t count = rows.count();
  std::vector<KvSequence> sequences;
  std::vector<std::vector<int32_t>> pages;
  for (size_t i = 0; i < rows.tokens.size(); ++i) {
    pages.emplace_back(static_cast<size_t>(rows.positions[i] / kPageTokens + 1),
                       rows.pages[i]);
  }
  for (size_t i = 0; i < rows.tokens.size(); ++i) {
    sequences.push_back({.row_begin = static_cast<int64_t>(i),
                         .num_rows = 1,
                         .position = rows.positions[i],
                         .pages = pages[i].data()});
  }
  absl::Status status = backend_->Embed(
      {&table_, rows.tokens.data(), memory.hidden.as<float>(), count});
  status.Update(
      backend_->RopeTable({.positions = rows.positions.data(),
                           .inverse_frequency = frequency_.as<float>(),
                           .cos_sin = memory.cos_sin.as<float>(),
                           .num_tokens = count,
                           .half_dims = kDim / 2}));
  status.Update(
      backend_->RmsNorm({memory.hidden.as<float>(), norm_.as<float>(),
                         memory.hidden.as<float>(), count, kWidth, 1e-5f}));
  status.Update(backend_->MatMul({.weight = &matrix_,
                                  .x = memory.hidden.as<float>(),
                                  .out = memory.qkv.as<float>(),
                                  .num_rows = count}));
  status.Update(
      backend_->RopeStoreKv({.qkv = memory.qkv.as<float>(),
                             .cos_sin = memory.cos_sin.as<float>(),
                             .kv = {memory.pool.as<std::byte>(), kLayout},
                             .sequences = sequences.data(),
                             .num_sequences = count,
                             .num_heads = kHeads,
                             .rotary_dims = kDim}));
  status.Update(backend_->SwiGlu(
      {memory.qkv.as<float>(), memory.hidden.as<float>(), count, kWidth}));
  status.Update(
      backend_->GatherRows({memory.qkv.as<float>(), rows.gathered.data(),
                            memory.gathered.as<float>(), count, kQkvWidth}));
  return status;
}

void StepOperationsTest::ExpectSame(const Rows& rows, const Memory& a,
                                    const Memory& b) {
  const auto expect_same = [&](const Buffer& one, const Buffer& other,
                               int64_t width) {
    EXPECT_EQ(Download(one.as<const float>(), rows.count() * width),
              Download(other.as<const float>(), rows.count() * width));
  };
  expect_same(a.hidden, b.hidden, kWidth);
  expect_same(a.qkv, b.qkv, kQkvWidth);
  expect_same(a.gathered, b.gathered, kQkvWidth);
  EXPECT_EQ(Download<std::byte>(a.pool), Download<std::byte>(b.pool));
}

Rows DrawRows(int64_t count, std::mt19937& random) {
  const auto below = [&](int64_t end) {
    return static_cast<int32_t>(random() % static_cast<uint32_t>(end));
  };
  Rows rows;
  for (int64_t i = 0; i < count; ++i) {
    rows.tokens.push_back(below(kVocabulary));
    rows.positions.push_back(below(60));
    rows.pages.push_back(static_cast<int32_t>(i + 1));
    rows.gathered.push_back(below(count));
  }
  return rows;
}

TEST_P(StepOperationsTest, AGraphGivesWhatItsOperationsGive) {
  std::mt19937 random(static_cast<uint32_t>(GetParam()));
  const Memory one_by_one = MakeMemory();
  const Memory graphs = MakeMemory();
  // Workspaces do not grow any more.
  const Rows most = DrawRows(kMostRows, random);
  ASSERT_TRUE(Issue(most, one_by_one).ok() && Issue(most, graphs).ok());
  const std::vector<int64_t> counts = {1, 3, 4, 1, 2, 5, 6, 3, 5, 2};
  for (const int64_t count : counts) {
    SCOPED_TRACE(fmt::format("{} rows", count));
    const Rows rows = DrawRows(count, random);
    ASSERT_TRUE(Issue(rows, one_by_one).ok());
    const absl::Status status =
        backend_->RunStep({.num_rows = count, .most_rows = kMostRows},
                          [&] { return Issue(rows, graphs); });
    ASSERT_TRUE(status.ok()) << status;
    ExpectSame(rows, graphs, one_by_one);
  }
  // Of 1, 2, 4 and 6 rows.
  EXPECT_EQ(backend_->step_counts().recorded, 4);
  EXPECT_EQ(backend_->step_counts().repeated, std::ssize(counts) - 4);
}

// Steps that work in other memory are other steps.
TEST_P(StepOperationsTest, AGraphIsMadeAnewForOtherMemory) {
  std::mt19937 random(7);
  const Memory one_by_one = MakeMemory();
  const Rows rows = DrawRows(3, random);
  ASSERT_TRUE(Issue(rows, one_by_one).ok());
  for (int i = 0; i < 2; ++i) {
    const Memory graphs = MakeMemory();
    const Memory kept = MakeMemory();
    for (const Memory* memory : {&graphs, &kept}) {
      ASSERT_TRUE(backend_
                      ->RunStep({.num_rows = 3, .most_rows = kMostRows},
                                [&] { return Issue(rows, *memory); })
                      .ok());
      ExpectSame(rows, *memory, one_by_one);
    }
  }
  EXPECT_EQ(backend_->step_counts().repeated, 0);
}

TEST_P(StepOperationsTest, WhatIsNoPartOfAStepIsRefused) {
  const Memory memory = MakeMemory();
  std::mt19937 random(7);
  const Rows rows = DrawRows(2, random);
  float number = 0;
  const absl::Status status = backend_->RunStep(
      {.num_rows = 2, .most_rows = kMostRows}, [&]() -> absl::Status {
        const absl::Status issued = Issue(rows, memory);
        if (!issued.ok()) return issued;
        return backend_->CopyToHost(&number, memory.qkv.data(), sizeof(number));
      });
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_EQ(backend_->step_counts().recorded, 0);
  EXPECT_TRUE(Issue(rows, memory).ok());
}

}  // namespace
}  // namespace sentencekv
