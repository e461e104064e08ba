#include "tests/support/fault_backend.h"

#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/support/random_matrix.h"

namespace sentencekv {
namespace {

class FaultBackendTest : public testing::Test {
 protected:
  static std::unique_ptr<Backend> Inner() {
    return std::move(MakeCpuBackend({.num_threads = 1})).value();
  }
  FaultBackend backend_{Inner()};
};

TEST_F(FaultBackendTest, ForwardsAndCounts) {
  const float x[4] = {1, 2, 3, 4};
  float y[4] = {};
  auto buffer = backend_.Allocate(sizeof(x));
  ASSERT_TRUE(buffer.ok());
  ASSERT_TRUE(backend_.CopyToDevice(buffer->data(), x, sizeof(x)).ok());
  ASSERT_TRUE(backend_.Synchronize().ok());
  ASSERT_TRUE(backend_.CopyToHost(y, buffer->data(), sizeof(y)).ok());
  EXPECT_EQ(0, std::memcmp(x, y, sizeof(x)));
  EXPECT_EQ(backend_.num_calls(), 4);
  EXPECT_EQ(backend_.failed_method(), "");
  EXPECT_NE(backend_.description().find("cpu"), std::string::npos);
}

TEST_F(FaultBackendTest, FailsExactlyTheOrderedCall) {
  for (int64_t n = 1; n <= 3; ++n) {
    backend_.FailCall(n, absl::InternalError("ordered"));
    for (int64_t call = 1; call <= 4; ++call) {
      EXPECT_EQ(backend_.Synchronize().ok(), call != n);
    }
    EXPECT_EQ(backend_.failed_method(), "Synchronize");
  }
  EXPECT_EQ(backend_.num_calls(), 12);
}

TEST_F(FaultBackendTest, FailsTheOrderedCallOfAMethod) {
  float x = 1;
  float y = 0;
  backend_.FailCall(2, absl::InternalError("ordered"), "CopyToHost");
  EXPECT_TRUE(backend_.Synchronize().ok());
  EXPECT_TRUE(backend_.CopyToHost(&y, &x, sizeof(x)).ok());
  EXPECT_TRUE(backend_.Synchronize().ok());
  EXPECT_EQ(backend_.failed_method(), "");
  EXPECT_FALSE(backend_.CopyToHost(&y, &x, sizeof(x)).ok());
  EXPECT_EQ(backend_.failed_method(), "CopyToHost");
  EXPECT_TRUE(backend_.CopyToHost(&y, &x, sizeof(x)).ok());
}

TEST_F(FaultBackendTest, AnOrderCanBeCancelled) {
  backend_.FailCall(1, absl::InternalError("ordered"));
  backend_.FailCall(0, absl::InternalError("cancelled"));
  EXPECT_TRUE(backend_.Synchronize().ok());
}

// A failed call must not reach the backend behind, and the status must come
// through unchanged.
TEST_F(FaultBackendTest, FailedCallHasNoEffect) {
  const RandomMatrix matrix(SourceType::kF32, 4, 8, 1);
  const MatrixSource source = matrix.source();
  auto weight = backend_.PackWeights({&source, 1});
  ASSERT_TRUE(weight.ok());
  EXPECT_EQ(weight->format, WeightFormat::kF32);
  const std::vector<float> x = RandomFloats(8, 2);
  std::vector<float> out(4, -1.0f);
  const MatMulParams params = {
      .weight = &*weight, .x = x.data(), .out = out.data(), .num_rows = 1};
  backend_.FailCall(1, absl::UnavailableError("device lost"));
  EXPECT_EQ(backend_.MatMul(params), absl::UnavailableError("device lost"));
  EXPECT_EQ(backend_.failed_method(), "MatMul");
  EXPECT_EQ(out, std::vector<float>(4, -1.0f));
  EXPECT_TRUE(backend_.MatMul(params).ok());
  EXPECT_NE(out, std::vector<float>(4, -1.0f));
}

// Empty steps and bad arguments never become calls.
TEST_F(FaultBackendTest, CountsOnlyRealCalls) {
  EXPECT_TRUE(backend_.MatMul({}).ok());
  EXPECT_FALSE(backend_.MatMul({.num_rows = 1}).ok());
  EXPECT_EQ(backend_.num_calls(), 0);
}

// Every operation can be made to fail, under its own name.
TEST_F(FaultBackendTest, EveryOperationCanFail) {
  const RandomMatrix matrix(SourceType::kF32, 16, 16, 1);
  const MatrixSource source = matrix.source();
  auto weight = backend_.PackWeights({&source, 1});
  ASSERT_TRUE(weight.ok());
  std::vector<float> in(4096, 1.0f);
  std::vector<float> out(4096);
  const int32_t zero = 0;
  const KvLayout layout = {
      .num_layers = 1, .num_pages = 1, .num_kv_heads = 1, .head_dim = 16};
  std::vector<std::byte> pool(static_cast<size_t>(layout.total_bytes()));
  const KvLayerView view = {pool.data(), layout};
  const KvSequence sequence = {.num_rows = 1, .pages = &zero};
  const uint16_t mask = 1;
  const SelectedTokens selected = {0, 0, &zero, &mask, 1};
  const std::pair<std::string, std::function<absl::Status()>> operations[] = {
      {"Allocate", [&] { return backend_.Allocate(1).status(); }},
      {"CopyToDevice",
       [&] { return backend_.CopyToDevice(&out[0], &in[0], 4); }},
      {"CopyToHost", [&] { return backend_.CopyToHost(&out[0], &in[0], 4); }},
      {"Synchronize", [&] { return backend_.Synchronize(); }},
      {"PackWeights",
       [&] {
         return backend_.PackWeights({&source, 1}).status();
       }},
      {"Embed",
       [&] {
         return backend_.Embed({&*weight, &zero, out.data(), 1});
       }},
      {"RmsNorm",
       [&] {
         return backend_.RmsNorm({in.data(), in.data(), out.data(), 1, 16, 0});
       }},
      {"MatMul",
       [&] {
         return backend_.MatMul(
             {&*weight, in.data(), nullptr, out.data(), 1, false});
       }},
      {"SwiGlu",
       [&] {
         return backend_.SwiGlu({in.data(), out.data(), 1, 16});
       }},
      {"GatherRows",
       [&] {
         return backend_.GatherRows({in.data(), &zero, out.data(), 1, 16});
       }},
      {"RopeTable",
       [&] {
         return backend_.RopeTable({&zero, in.data(), out.data(), 1, 8, 1});
       }},
      {"RopeStoreKv",
       [&] {
         return backend_.RopeStoreKv(
             {out.data(), in.data(), view, &sequence, 1, 1, 16});
       }},
      {"Attention",
       [&] {
         return backend_.Attention(
             {in.data(), out.data(), view, &sequence, 1, 1, 1});
       }},
      {"SelectedAttention",
       [&] {
         return backend_.SelectedAttention(
             {in.data(), out.data(), view, &selected, 1, 1, 1});
       }},
      {"AttentionMass",
       [&] {
         return backend_.AttentionMass(
             {in.data(), 1, 0, view, &zero, 1, 1, out.data()});
       }},
      {"ReadKeys",
       [&] {
         return backend_.ReadKeys({view, 0, &zero, &zero, 1, out.data()});
       }},
      {"CopyPages",
       [&] {
         return backend_.CopyPages({layout, pool.data(), &zero, &zero, 1});
       }},
      {"CopyRows",
       [&] {
         auto* const bytes = reinterpret_cast<std::byte*>(out.data());
         return backend_.CopyRows({bytes, 2, bytes + 2, 2, 2, 1});
       }},
  };
  for (const auto& [name, operation] : operations) {
    backend_.FailCall(1, absl::InternalError("ordered"));
    EXPECT_EQ(operation(), absl::InternalError("ordered")) << name;
    EXPECT_EQ(backend_.failed_method(), name);
    EXPECT_TRUE(operation().ok()) << name;
  }
}

}  // namespace
}  // namespace sentencekv
