// The operations that read K and V of the CUDA backend, against the CPU's:
// both are given the same K and V by RopeStoreKv. The kernels have tests of
// their own; these are about what the backend sends to the device.
#include <cmath>
#include <cstdint>
#include <vector>

#include "fmt/format.h"
#include "gtest/gtest.h"
#include "kernels/half.h"
#include "tests/cuda/backend_under_test.h"
#include "tests/support/random_matrix.h"

namespace sentencekv {
namespace {

constexpr int64_t kHeads = 6;
constexpr int64_t kKvHeads = 2;
constexpr int64_t kDim = 64;
constexpr int64_t kWidth = (kHeads + 2 * kKvHeads) * kDim;
constexpr float kScale = 0.125f;

// K and V of two sequences on both backends, and the step that wrote them.
class AttentionOperationsTest : public CudaBackendTest {
 protected:
  static constexpr int64_t kRows[] = {40, 331};
  static constexpr int64_t kTokens = 371;

  void SetUp() override {
    CudaBackendTest::SetUp();
    if (backend_ == nullptr) return;
    const int64_t num_pages[] = {3, 21};
    layout_.num_pages = 30;
    for (int s = 0; s < 2; ++s) {
      pages_[s].resize(num_pages[s]);
      // Scattered, and none of the other's.
      for (int64_t i = 0; i < num_pages[s]; ++i) {
        pages_[s][i] = static_cast<int32_t>(s == 0 ? 29 - i : 20 - i);
      }
    }
    sequences_ = {{0, kRows[0], 0, pages_[0].data()},
                  {kRows[0], kRows[1], 0, pages_[1].data()}};
    qkv_ = RandomFloats(kTokens * kWidth, 31);
    // Tensor cores round q times this: to what it is already.
    const float scale = kScale * 1.4426950408889634f;
    for (float& x : qkv_) x = Bf16ToF32(F32ToBf16(x * scale)) / scale;
    std::vector<float> cos_sin(kTokens * kDim, 0.0f);
    for (size_t i = 0; i < cos_sin.size(); i += 2) cos_sin[i] = 1;
    cpu_pool_.resize(layout_.total_bytes());
    device_qkv_ = Upload(qkv_);
    device_pool_ = Upload(std::vector<std::byte>(layout_.total_bytes()));
    const Buffer angles = Upload(cos_sin);
    RopeStoreKvParams params = {
        qkv_.data(), cos_sin.data(), cpu_view(), sequences_.data(),
        2,           kHeads,         kDim};
    ASSERT_TRUE(cpu_->RopeStoreKv(params).ok());
    params.qkv = device_qkv_.as<float>();
    params.cos_sin = angles.as<float>();
    params.kv = device_view();
    ASSERT_TRUE(backend_->RopeStoreKv(params).ok());
  }
  void TearDown() override {
    device_qkv_ = Buffer();
    device_pool_ = Buffer();
    CudaBackendTest::TearDown();
  }

  KvLayerView cpu_view() { return {cpu_pool_.data(), layout_}; }
  KvLayerView device_view() const {
    return {device_pool_.as<std::byte>(), layout_};
  }
  // The bound that device_step.h derives for bf16; no value is larger than 6.
  static void ExpectAttention(const std::vector<float>& actual,
                              const std::vector<float>& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      ASSERT_NEAR(actual[i], expected[i], 0x1p-8 * (6 + std::fabs(expected[i])))
          << i;
    }
  }
  static void ExpectNear(const std::vector<float>& actual,
                         const std::vector<float>& expected, double tolerance) {
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      ASSERT_NEAR(actual[i], expected[i], tolerance) << i;
    }
  }

  KvLayout layout_ = {.num_layers = 1,
                      .num_kv_heads = kKvHeads,
                      .head_dim = kDim,
                      .dtype = DType::kBF16};
  std::vector<int32_t> pages_[2];
  std::vector<KvSequence> sequences_;
  std::vector<float> qkv_;  // [kTokens][kWidth]
  std::vector<std::byte> cpu_pool_;
  Buffer device_qkv_;
  Buffer device_pool_;
};

INSTANTIATE_TEST_SUITE_P(Seeds, AttentionOperationsTest,
                         testing::ValuesIn(DeviceSeeds()));

TEST_P(AttentionOperationsTest, AttendLikeTheCpu) {
  // A decoding row at the end of each, and a chunk in the middle.
  const std::vector<KvSequence> steps[] = {
      {{kRows[0] - 1, 1, kRows[0] - 1, pages_[0].data()},
       {kTokens - 1, 1, kRows[1] - 1, pages_[1].data()}},
      {{3, 20, 3, pages_[0].data()}, {140, 37, 100, pages_[1].data()}}};
  for (const std::vector<KvSequence>& step : steps) {
    std::vector<float> expected(kTokens * kHeads * kDim, -1.0f);
    const Buffer out = Upload(expected);
    AttentionParams params = {
        qkv_.data(), expected.data(), cpu_view(), step.data(),
        2,           kHeads,          kScale};
    ASSERT_TRUE(cpu_->Attention(params).ok());
    params.qkv = device_qkv_.as<float>();
    params.out = out.as<float>();
    params.kv = device_view();
    ASSERT_TRUE(backend_->Attention(params).ok());
    ExpectAttention(Download<float>(out), expected);
  }
}

TEST_P(AttentionOperationsTest, AttendToChosenTokensLikeTheCpu) {
  const std::vector<int32_t> few = {pages_[1][20], pages_[1][0]};
  const std::vector<uint16_t> few_masks = {0x07ff, 0x8421};
  const std::vector<uint16_t> all_masks(20, 0xffff);
  const std::vector<SelectedTokens> selections = {
      {kTokens - 1, 0, few.data(), few_masks.data(), 2},
      {kTokens - 1, 1, pages_[1].data(), all_masks.data(), 20},
      {12, 1, pages_[0].data(), few_masks.data(), 1}};
  std::vector<float> expected(kTokens * kHeads * kDim, -1.0f);
  const Buffer out = Upload(expected);
  SelectedAttentionParams params = {
      qkv_.data(), expected.data(), cpu_view(), selections.data(),
      3,           kHeads,          kScale};
  ASSERT_TRUE(cpu_->SelectedAttention(params).ok());
  params.qkv = device_qkv_.as<float>();
  params.out = out.as<float>();
  params.kv = device_view();
  ASSERT_TRUE(backend_->SelectedAttention(params).ok());
  ExpectAttention(Download<float>(out), expected);
}

TEST_P(AttentionOperationsTest, MeasureAttentionLikeTheCpu) {
  constexpr int64_t kQueries = 9;
  const std::vector<float> queries = RandomFloats(kQueries * kHeads * kDim, 5);
  const int64_t num_keys = 300 + kQueries;
  std::vector<float> expected(kHeads * num_keys);
  std::vector<float> actual(expected.size(), -1.0f);
  AttentionMassParams params = {queries.data(), kQueries,         300,
                                cpu_view(),     pages_[1].data(), kHeads,
                                kScale,         expected.data()};
  ASSERT_TRUE(cpu_->AttentionMass(params).ok());
  params.kv = device_view();
  params.out = actual.data();
  ASSERT_TRUE(backend_->AttentionMass(params).ok());
  ExpectNear(actual, expected, 1e-5);
}

// Sentences of the second sequence, indexed and scored on one backend.
struct Sentences {
  SentenceIndexKind kind;
  std::vector<int32_t> ends = {1, 18, 19, 60, 64, 127, 200, 331};

  int64_t block_bytes() const { return SentenceBlockBytes(kind, kDim); }
  int64_t sign_bytes() const { return 21 * SignStripBytes(kDim); }
};

// For every KV head, [KV heads][entries].
std::vector<float> Score(Backend& backend, const KvLayerView& kv,
                         const int32_t* pages, const Sentences& sentences,
                         std::byte* blocks, std::byte* signs, const float* q,
                         float* query_sum, const std::vector<float>& prior) {
  std::vector<SentenceIndexItem> items;
  int64_t begin = 0;
  for (const int32_t end : sentences.ends) {
    items.push_back({.kind = sentences.kind,
                     .pages = pages,
                     .begin = begin,
                     .end = end,
                     .entry = std::ssize(items),
                     .blocks = blocks,
                     .head_stride = sentences.block_bytes(),
                     .signs = signs,
                     .sign_stride = sentences.sign_bytes()});
    begin = end;
  }
  absl::Status status =
      backend.IndexSentences({kv, items.data(), std::ssize(items)});
  EXPECT_TRUE(status.ok()) << status;
  const auto num_entries = std::ssize(sentences.ends);
  std::vector<float> scores(kKvHeads * num_entries, -1.0f);
  std::vector<SentenceScoreItem> score_items;
  for (int64_t g = 0; g < kKvHeads; ++g) {
    const int64_t heads = g * (kHeads / kKvHeads) * kDim;
    score_items.push_back({.kind = sentences.kind,
                           .q = q + heads,
                           .blocks = blocks + g * sentences.block_bytes(),
                           .num_entries = num_entries,
                           .prior = g == 0 ? nullptr : prior.data(),
                           .prior_weight = 0.5f,
                           .scores = scores.data() + g * num_entries,
                           .signs = signs + g * sentences.sign_bytes(),
                           .ends = sentences.ends.data(),
                           .query_sum = query_sum + heads,
                           .num_summed = g,
                           .blend = 0.25f});
  }
  status = backend.ScoreSentences({.items = score_items.data(),
                                   .num_items = kKvHeads,
                                   .num_heads = kHeads / kKvHeads,
                                   .head_dim = kDim,
                                   .scale = kScale});
  EXPECT_TRUE(status.ok()) << status;
  return scores;
}

TEST_P(AttentionOperationsTest, IndexAndScoreLikeTheCpu) {
  for (const SentenceIndexKind kind :
       {SentenceIndexKind::kMean, SentenceIndexKind::kMinMax,
        SentenceIndexKind::kSign}) {
    SCOPED_TRACE(static_cast<int>(kind));
    const Sentences sentences = {kind};
    const std::vector<float> prior =
        RandomFloats(std::ssize(sentences.ends), 6);
    const int64_t row = kTokens - 1;
    std::vector<std::byte> blocks(kKvHeads * sentences.block_bytes());
    std::vector<std::byte> signs(kKvHeads * sentences.sign_bytes());
    std::vector<float> query_sum(kHeads * kDim, 0.5f);
    const Buffer device_blocks = Upload(blocks);
    const Buffer device_signs = Upload(signs);
    const Buffer device_sum = Upload(query_sum);
    const std::vector<float> expected = Score(
        *cpu_, cpu_view(), pages_[1].data(), sentences, blocks.data(),
        signs.data(), qkv_.data() + row * kWidth, query_sum.data(), prior);
    const std::vector<float> actual = Score(
        *backend_, device_view(), pages_[1].data(), sentences,
        device_blocks.as<std::byte>(), device_signs.as<std::byte>(),
        device_qkv_.as<float>() + row * kWidth, device_sum.as<float>(), prior);
    ExpectNear(actual, expected, 1e-4);
    ExpectNear(Download<float>(device_sum), query_sum, 1e-6);
  }
}

}  // namespace
}  // namespace sentencekv
