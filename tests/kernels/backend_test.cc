// The argument checks of every public method of Backend: each wrong field is
// refused by name before anything is done, and empty steps are fine.
#include "kernels/backend.h"

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/support/fault_backend.h"

namespace sentencekv {
namespace {

using testing::HasSubstr;

constexpr int64_t kHuge = int64_t{1} << 40;

// Arguments that are right, for tests to spoil one field at a time.
class BackendTest : public testing::Test {
 protected:
  BackendTest() {
    // Counts what gets through the checks; what lies behind is not reached.
    const float values[4] = {};
    const MatrixSource source = {reinterpret_cast<const std::byte*>(values),
                                 SourceType::kF32, 2, 2};
    weight_ = std::move(backend_.PackWeights({&source, 1})).value();
    calls_before_ = backend_.num_calls();
  }

  // Applies each spoiling to a copy of `good` and expects the operation to
  // refuse it with a message that has the given part.
  template <typename Params>
  struct Spoiling {
    std::function<void(Params&)> spoil;
    std::string message;
  };
  template <typename Params>
  void ExpectRefused(absl::Status (Backend::*operation)(const Params&),
                     const Params& good,
                     const std::vector<Spoiling<Params>>& spoilings) {
    for (const Spoiling<Params>& spoiling : spoilings) {
      Params bad = good;
      spoiling.spoil(bad);
      const absl::Status status = (backend_.*operation)(bad);
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument)
          << spoiling.message;
      EXPECT_THAT(std::string(status.message()), HasSubstr(spoiling.message));
    }
    // Without parameters there are no rows: nothing to do, and no null
    // pointer matters.
    EXPECT_TRUE((backend_.*operation)(Params()).ok());
    EXPECT_EQ(backend_.num_calls(), calls_before_);
    const absl::Status status = (backend_.*operation)(good);
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(backend_.num_calls(), calls_before_ + 1);
  }

  FaultBackend backend_{std::move(MakeCpuBackend({.num_threads = 1})).value()};
  WeightMatrix weight_;  // [2, 2]
  int64_t calls_before_ = 0;
  std::vector<float> in_ = std::vector<float>(256, 0.5f);
  std::vector<float> out_ = std::vector<float>(256);
  std::vector<int32_t> indices_ = {0, 1};
  KvLayout layout_ = {
      .num_layers = 1, .num_pages = 2, .num_kv_heads = 1, .head_dim = 8};
  std::vector<std::byte> pool_ =
      std::vector<std::byte>(static_cast<size_t>(layout_.total_bytes()));
  // 17 tokens: two pages.
  KvSequence sequence_ = {
      .row_begin = 0, .num_rows = 1, .position = 16, .pages = indices_.data()};
};

TEST_F(BackendTest, ChecksEmbed) {
  static const int32_t below[] = {0, -1};
  static const int32_t above[] = {2, 0};
  static const WeightMatrix no_data = {WeightFormat::kF32, 2, 2, {}};
  ExpectRefused<EmbedParams>(
      &Backend::Embed,
      {.table = &weight_,
       .tokens = indices_.data(),
       .out = out_.data(),
       .num_tokens = 2},
      {{[](auto& p) { p.table = nullptr; }, "table is null"},
       {[](auto& p) { p.table = &no_data; }, "data of the weight matrix"},
       {[](auto& p) { p.tokens = nullptr; }, "tokens is null"},
       {[](auto& p) { p.out = nullptr; }, "out is null"},
       {[](auto& p) { p.num_tokens = -1; }, "num_tokens must be in 0.."},
       {[](auto& p) { p.num_tokens = kHuge; }, "num_tokens must be in 0.."},
       {[](auto& p) { p.tokens = below; }, "token must be in 0..1, got -1"},
       {[](auto& p) { p.tokens = above; }, "token must be in 0..1, got 2"}});
}

TEST_F(BackendTest, ChecksRmsNorm) {
  ExpectRefused<RmsNormParams>(
      &Backend::RmsNorm,
      {.x = in_.data(),
       .weight = in_.data(),
       .out = out_.data(),
       .num_rows = 2,
       .width = 4,
       .epsilon = 1e-5f},
      {{[](auto& p) { p.x = nullptr; }, "x is null"},
       {[](auto& p) { p.weight = nullptr; }, "weight is null"},
       {[](auto& p) { p.out = nullptr; }, "out is null"},
       {[](auto& p) { p.num_rows = -1; }, "num_rows must be in 0.."},
       {[](auto& p) { p.width = 0; }, "width must be in 1.."},
       {[](auto& p) { p.epsilon = -1; }, "epsilon must be"},
       {[](auto& p) { p.epsilon = NAN; }, "epsilon must be"}});
}

TEST_F(BackendTest, ChecksMatMul) {
  ExpectRefused<MatMulParams>(
      &Backend::MatMul,
      {.weight = &weight_, .x = in_.data(), .out = out_.data(), .num_rows = 2},
      {{[](auto& p) { p.weight = nullptr; }, "weight is null"},
       {[](auto& p) { p.x = nullptr; }, "x is null"},
       {[](auto& p) { p.out = nullptr; }, "out is null"},
       {[](auto& p) { p.num_rows = -1; }, "num_rows must be in 0.."},
       {[](auto& p) { p.num_rows = kHuge; }, "num_rows must be in 0.."}});
}

TEST_F(BackendTest, ChecksSwiGlu) {
  ExpectRefused<SwiGluParams>(
      &Backend::SwiGlu,
      {.gate_up = in_.data(), .out = out_.data(), .num_rows = 2, .width = 4},
      {{[](auto& p) { p.gate_up = nullptr; }, "gate_up is null"},
       {[](auto& p) { p.out = nullptr; }, "out is null"},
       {[](auto& p) { p.num_rows = -1; }, "num_rows must be in 0.."},
       {[](auto& p) { p.width = -4; }, "width must be in 1.."}});
}

TEST_F(BackendTest, ChecksGatherRows) {
  static const int32_t below[] = {0, -1};
  ExpectRefused<GatherRowsParams>(
      &Backend::GatherRows,
      {.x = in_.data(),
       .rows = indices_.data(),
       .out = out_.data(),
       .num_rows = 2,
       .width = 4},
      {{[](auto& p) { p.x = nullptr; }, "x is null"},
       {[](auto& p) { p.rows = nullptr; }, "rows is null"},
       {[](auto& p) { p.out = nullptr; }, "out is null"},
       {[](auto& p) { p.num_rows = -1; }, "num_rows must be in 0.."},
       {[](auto& p) { p.width = 0; }, "width must be in 1.."},
       {[](auto& p) { p.rows = below; }, "row must be in 0.."}});
}

TEST_F(BackendTest, ChecksRopeTable) {
  static const int32_t below[] = {0, -1};
  ExpectRefused<RopeTableParams>(
      &Backend::RopeTable,
      {.positions = indices_.data(),
       .inverse_frequency = in_.data(),
       .cos_sin = out_.data(),
       .num_tokens = 2,
       .half_dims = 4},
      {{[](auto& p) { p.positions = nullptr; }, "positions is null"},
       {[](auto& p) { p.inverse_frequency = nullptr; },
        "inverse_frequency is null"},
       {[](auto& p) { p.cos_sin = nullptr; }, "cos_sin is null"},
       {[](auto& p) { p.num_tokens = -1; }, "num_tokens must be in 0.."},
       {[](auto& p) { p.half_dims = 0; }, "half_dims must be in 1.."},
       {[](auto& p) { p.positions = below; }, "position must be in 0.."}});
}

TEST_F(BackendTest, ChecksRopeStoreKv) {
  static KvSequence bad_sequence;
  static const int32_t bad_pages[] = {0, 2};
  const auto sequence = [this](auto change) {
    return [this, change](RopeStoreKvParams& p) {
      bad_sequence = sequence_;
      change(bad_sequence);
      p.sequences = &bad_sequence;
    };
  };
  ExpectRefused<RopeStoreKvParams>(
      &Backend::RopeStoreKv,
      {.qkv = out_.data(),
       .cos_sin = in_.data(),
       .kv = {pool_.data(), layout_},
       .sequences = &sequence_,
       .num_sequences = 1,
       .num_heads = 2,
       .rotary_dims = 2},
      {{[](auto& p) { p.qkv = nullptr; }, "qkv is null"},
       {[](auto& p) { p.cos_sin = nullptr; }, "cos_sin is null"},
       {[](auto& p) { p.kv.base = nullptr; }, "kv.base is null"},
       {[](auto& p) { p.sequences = nullptr; }, "sequences is null"},
       {[](auto& p) { p.num_sequences = -1; }, "num_sequences must be in 0.."},
       {[](auto& p) { p.num_heads = 0; }, "num_heads must be in 1.."},
       {[](auto& p) { p.rotary_dims = 0; }, "rotary_dims must be in 2..8"},
       {[](auto& p) { p.rotary_dims = 10; }, "rotary_dims must be in 2..8"},
       {[](auto& p) { p.rotary_dims = 3; }, "rotary_dims must be even"},
       {[](auto& p) { p.layout = static_cast<RopeLayout>(9); }, "rope layout"},
       {[](auto& p) { p.kv.layout.num_kv_heads = 0; }, "num_kv_heads must be"},
       {[](auto& p) { p.kv.layout.head_dim = 0; }, "head_dim must be"},
       {[](auto& p) { p.kv.layout.dtype = static_cast<DType>(9); },
        "unknown dtype"},
       {sequence([](auto& s) { s.num_rows = 0; }), "num_rows must be in 1.."},
       {sequence([](auto& s) { s.row_begin = -1; }), "row_begin must be"},
       {sequence([](auto& s) { s.position = -1; }), "position must be"},
       {sequence([](auto& s) { s.pages = nullptr; }), "pages is null"},
       {sequence([](auto& s) { s.pages = bad_pages; }),
        "page must be in 0..1, got 2"}});
}

TEST_F(BackendTest, ChecksAttention) {
  static KvSequence bad_sequence;
  static const int32_t bad_pages[] = {-1, 0};
  ExpectRefused<AttentionParams>(
      &Backend::Attention,
      {.qkv = in_.data(),
       .out = out_.data(),
       .kv = {pool_.data(), layout_},
       .sequences = &sequence_,
       .num_sequences = 1,
       .num_heads = 2,
       .scale = 1},
      {{[](auto& p) { p.qkv = nullptr; }, "qkv is null"},
       {[](auto& p) { p.out = nullptr; }, "out is null"},
       {[](auto& p) { p.kv.base = nullptr; }, "kv.base is null"},
       {[](auto& p) { p.sequences = nullptr; }, "sequences is null"},
       {[](auto& p) { p.num_sequences = -1; }, "num_sequences must be in 0.."},
       {[](auto& p) { p.num_heads = 0; }, "num_heads must be in 1.."},
       {[](auto& p) {
          p.kv.layout.num_kv_heads = 2;
          p.num_heads = 3;
        },
        "multiple of num_kv_heads"},
       {[this](auto& p) {
          bad_sequence = sequence_;
          bad_sequence.pages = bad_pages;
          p.sequences = &bad_sequence;
        },
        "page must be in 0..1, got -1"}});
}

TEST_F(BackendTest, ChecksAttentionMass) {
  static const int32_t bad_pages[] = {0, 2};
  ExpectRefused<AttentionMassParams>(
      &Backend::AttentionMass,
      {.queries = in_.data(),
       .num_queries = 2,
       .first_position = 15,
       .kv = {pool_.data(), layout_},
       .pages = indices_.data(),
       .num_heads = 2,
       .scale = 1,
       .out = out_.data()},
      {{[](auto& p) { p.queries = nullptr; }, "queries is null"},
       {[](auto& p) { p.out = nullptr; }, "out is null"},
       {[](auto& p) { p.pages = nullptr; }, "pages is null"},
       {[](auto& p) { p.kv.base = nullptr; }, "kv.base is null"},
       {[](auto& p) { p.num_queries = -1; }, "num_queries must be in 0.."},
       {[](auto& p) { p.first_position = kHuge; }, "position must be in 0.."},
       {[](auto& p) { p.num_heads = 0; }, "num_heads must be in 1.."},
       {[](auto& p) {
          p.kv.layout.num_kv_heads = 2;
          p.num_heads = 3;
        },
        "multiple of num_kv_heads"},
       {[](auto& p) { p.pages = bad_pages; }, "page must be in 0..1, got 2"}});
}

TEST_F(BackendTest, ChecksReadKeys) {
  static const int32_t negative[] = {0, -1};
  static const int32_t bad_pages[] = {0, 2};
  static const int32_t positions[] = {3, 17};
  ExpectRefused<ReadKeysParams>(
      &Backend::ReadKeys,
      {.kv = {pool_.data(), layout_},
       .kv_head = 0,
       .pages = indices_.data(),
       .positions = positions,
       .num_positions = 2,
       .out = out_.data()},
      {{[](auto& p) { p.pages = nullptr; }, "pages is null"},
       {[](auto& p) { p.positions = nullptr; }, "positions is null"},
       {[](auto& p) { p.out = nullptr; }, "out is null"},
       {[](auto& p) { p.kv.base = nullptr; }, "kv.base is null"},
       {[](auto& p) { p.kv_head = 1; }, "kv_head must be in 0..0, got 1"},
       {[](auto& p) { p.num_positions = -1; }, "num_positions must be in 0.."},
       {[](auto& p) { p.positions = negative; }, "position must be in 0.."},
       {[](auto& p) { p.pages = bad_pages; }, "page must be in 0..1, got 2"}});
}

TEST_F(BackendTest, ChecksCopyRows) {
  ExpectRefused<CopyRowsParams>(
      &Backend::CopyRows,
      {.source = pool_.data(),
       .source_stride = 8,
       .destination = pool_.data() + 64,
       .destination_stride = 16,
       .row_bytes = 8,
       .num_rows = 2},
      {{[](auto& p) { p.source = nullptr; }, "source is null"},
       {[](auto& p) { p.destination = nullptr; }, "destination is null"},
       {[](auto& p) { p.num_rows = -1; }, "num_rows must be in 0.."},
       {[](auto& p) { p.row_bytes = -1; }, "row_bytes must be in 0.."},
       {[](auto& p) { p.source_stride = 7; }, "source_stride must be in 8.."},
       {[](auto& p) { p.destination_stride = 7; },
        "destination_stride must be in 8.."}});
}

TEST_F(BackendTest, ChecksCopyPages) {
  static const int32_t bad_pages[] = {2};
  ExpectRefused<CopyPagesParams>(
      &Backend::CopyPages,
      {.layout = layout_,
       .pool = pool_.data(),
       .source = indices_.data(),
       .destination = indices_.data() + 1,
       .num_pages = 1},
      {{[](auto& p) { p.pool = nullptr; }, "pool is null"},
       {[](auto& p) { p.source = nullptr; }, "source is null"},
       {[](auto& p) { p.destination = nullptr; }, "destination is null"},
       {[](auto& p) { p.num_pages = -1; }, "num_pages must be in 0.."},
       {[](auto& p) { p.layout.num_pages = 0; }, "source page must be in"},
       {[](auto& p) { p.source = bad_pages; }, "source page must be in 0..1"},
       {[](auto& p) { p.destination = bad_pages; },
        "destination page must be in 0..1"}});
}

}  // namespace
}  // namespace sentencekv
