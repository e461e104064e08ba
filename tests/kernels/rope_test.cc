// RopeTable and RopeStoreKv against double precision.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "fmt/format.h"
#include "kernels/half.h"
#include "tests/support/cpu_levels.h"

namespace sentencekv {
namespace {

constexpr uint32_t kSeed = 20240613;

class RopeTest : public testing::TestWithParam<CpuVariant> {
 protected:
  std::unique_ptr<Backend> backend_ = MakeVariant(GetParam());
};

TEST_P(RopeTest, TableIsCosineAndSine) {
  const std::vector<int32_t> positions = {
      0, 1, 2, 4095, 131072, 1'000'003, 2'000'000'000};
  for (const int64_t half : {1, 3, 16, 32, 37, 64}) {
    for (const float magnitude : {1.0f, 1.25f}) {
      SCOPED_TRACE(fmt::format("half {} magnitude {}", half, magnitude));
      std::vector<float> frequency(half);
      for (int64_t i = 0; i < half; ++i) {
        frequency[i] = static_cast<float>(
            std::pow(10000.0, -static_cast<double>(i) / half));
      }
      std::vector<float> table(positions.size() * half * 2);
      ASSERT_TRUE(
          backend_
              ->RopeTable({positions.data(), frequency.data(), table.data(),
                           static_cast<int64_t>(positions.size()), half,
                           magnitude})
              .ok());
      for (size_t t = 0; t < positions.size(); ++t) {
        for (int64_t i = 0; i < half; ++i) {
          const long double angle =
              static_cast<long double>(positions[t]) * frequency[i];
          const float* pair = table.data() + (t * half + i) * 2;
          // The product in double is exact to 2e9 * 1e-16; f32 rounds the rest.
          EXPECT_NEAR(pair[0], magnitude * std::cos(angle), 4e-7);
          EXPECT_NEAR(pair[1], magnitude * std::sin(angle), 4e-7);
        }
      }
    }
  }
}

// A step of RopeStoreKv with everything it reads and writes.
struct RopeCase {
  int64_t num_heads = 4;
  int64_t num_kv_heads = 2;
  int64_t head_dim = 64;
  int64_t rotary_dims = 64;
  RopeLayout layout = RopeLayout::kInterleaved;
  DType dtype = DType::kF16;
};

constexpr int64_t kTokens = 23;  // 5 at position 14 and 18 at position 0
constexpr int64_t kPages = 6;
const std::vector<int32_t> kFirstPages = {4, 1};
const std::vector<int32_t> kSecondPages = {0, 5};

class RopeStep {
 public:
  explicit RopeStep(const RopeCase& c) : c_(c) {
    std::mt19937 random(kSeed);
    std::normal_distribution<float> normal;
    qkv_.resize(kTokens * width());
    for (float& x : qkv_) x = normal(random);
    cos_sin_.resize(kTokens * c.rotary_dims);
    for (int64_t i = 0; i < kTokens * c.rotary_dims / 2; ++i) {
      const double angle = normal(random);
      cos_sin_[2 * i] = static_cast<float>(std::cos(angle));
      cos_sin_[2 * i + 1] = static_cast<float>(std::sin(angle));
    }
    layout_ = {.num_layers = 1,
               .num_pages = kPages,
               .num_kv_heads = c.num_kv_heads,
               .head_dim = c.head_dim,
               .dtype = c.dtype};
    pool_.assign(layout_.total_bytes(), std::byte{0xa5});
    sequences_[0] = {0, 5, 14, kFirstPages.data()};
    sequences_[1] = {5, 18, 0, kSecondPages.data()};
  }

  absl::Status Run(Backend& backend) {
    result_ = qkv_;
    return backend.RopeStoreKv({result_.data(),
                                cos_sin_.data(),
                                {pool_.data(), layout_},
                                sequences_,
                                2,
                                c_.num_heads,
                                c_.rotary_dims,
                                c_.layout});
  }

  // Checks q, k and v of every token, and that nothing else was written.
  void Check() {
    std::vector<bool> written(pool_.size());
    for (int64_t t = 0; t < kTokens; ++t) {
      CheckQueries(t);
      for (int64_t g = 0; g < c_.num_kv_heads; ++g) CheckKv(t, g, written);
    }
    for (size_t i = 0; i < pool_.size(); ++i) {
      if (written[i]) continue;
      ASSERT_EQ(pool_[i], std::byte{0xa5}) << i;
    }
  }

 private:
  int64_t width() const {
    return (c_.num_heads + 2 * c_.num_kv_heads) * c_.head_dim;
  }

  // Element d of a head after turning.
  double Turned(int64_t t, int64_t head, int64_t d) const {
    const float* x = qkv_.data() + t * width() + head * c_.head_dim;
    if (d >= c_.rotary_dims) return x[d];
    const bool interleaved = c_.layout == RopeLayout::kInterleaved;
    const int64_t half = c_.rotary_dims / 2;
    const int64_t pair = interleaved ? d / 2 : d % half;
    const bool second = interleaved ? d % 2 == 1 : d >= half;
    const double x0 = interleaved ? x[2 * pair] : x[pair];
    const double x1 = interleaved ? x[2 * pair + 1] : x[pair + half];
    const double cosine = cos_sin_[t * c_.rotary_dims + 2 * pair];
    const double sine = cos_sin_[t * c_.rotary_dims + 2 * pair + 1];
    return second ? x0 * sine + x1 * cosine : x0 * cosine - x1 * sine;
  }

  void CheckQueries(int64_t t) {
    for (int64_t i = 0; i < c_.num_heads * c_.head_dim; ++i) {
      ASSERT_NEAR(result_[t * width() + i],
                  Turned(t, i / c_.head_dim, i % c_.head_dim), 1e-6)
          << "token " << t << " element " << i;
    }
  }

  void CheckKv(int64_t t, int64_t g, std::vector<bool>& written) {
    const KvSequence& sequence = sequences_[t < 5 ? 0 : 1];
    const int64_t position = sequence.position + t - sequence.row_begin;
    const int64_t page = sequence.pages[position / kPageTokens];
    const int64_t token = position % kPageTokens;
    const int64_t base = page * layout_.page_bytes() + g * layout_.head_bytes();
    for (int64_t d = 0; d < c_.head_dim; ++d) {
      const int64_t key = base + (d * kPageTokens + token) * SizeOf(c_.dtype);
      const int64_t value =
          base + ((kPageTokens + token) * c_.head_dim + d) * SizeOf(c_.dtype);
      CheckSlot(key, Turned(t, c_.num_heads + g, d), written);
      CheckSlot(value,
                qkv_[t * width() +
                     (c_.num_heads + c_.num_kv_heads + g) * c_.head_dim + d],
                written);
    }
  }

  void CheckSlot(int64_t at, double expected, std::vector<bool>& written) {
    for (int64_t i = 0; i < SizeOf(c_.dtype); ++i) written[at + i] = true;
    float stored;
    double step;  // half a unit in the last place, relative
    uint16_t half;
    std::memcpy(&half, &pool_[at], sizeof(half));
    switch (c_.dtype) {
      case DType::kF32:
        std::memcpy(&stored, &pool_[at], sizeof(stored));
        step = 0;
        break;
      case DType::kF16:
        stored = F16ToF32(half);
        step = 0x1p-11;
        break;
      default:
        stored = Bf16ToF32(half);
        step = 0x1p-8;
        break;
    }
    ASSERT_NEAR(stored, expected, step * std::fabs(expected) + 1e-6) << at;
  }

  RopeCase c_;
  std::vector<float> qkv_;
  std::vector<float> result_;
  std::vector<float> cos_sin_;
  KvLayout layout_;
  std::vector<std::byte> pool_;
  KvSequence sequences_[2];
};

TEST_P(RopeTest, TurnsAndStores) {
  const RopeLayout layouts[] = {RopeLayout::kInterleaved, RopeLayout::kHalves};
  const DType dtypes[] = {DType::kF32, DType::kF16, DType::kBF16};
  const int64_t dims[][2] = {{8, 2},    {8, 8},     {24, 14},
                             {40, 40},  {64, 64},   {72, 18},
                             {128, 32}, {128, 128}, {256, 64}};
  for (const RopeLayout layout : layouts) {
    for (const DType dtype : dtypes) {
      for (const auto& [head_dim, rotary_dims] : dims) {
        for (const int64_t kv_heads : {1, 3}) {
          SCOPED_TRACE(fmt::format("layout {} {} dim {} rotary {} kv heads {}",
                                   static_cast<int>(layout), Name(dtype),
                                   head_dim, rotary_dims, kv_heads));
          RopeStep step({.num_heads = 3 * kv_heads,
                         .num_kv_heads = kv_heads,
                         .head_dim = head_dim,
                         .rotary_dims = rotary_dims,
                         .layout = layout,
                         .dtype = dtype});
          ASSERT_TRUE(step.Run(*backend_).ok());
          step.Check();
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

// One long sequence, so that two threads share it; and its rows one by one.
TEST_P(RopeTest, RowsDoNotDependOnTheirNumber) {
  constexpr int64_t kRows = 500;
  constexpr int64_t kWidth = (9 + 2 * 3) * 64;
  const KvLayout layout = {.num_layers = 1,
                           .num_pages = (kRows + 15) / 16,
                           .num_kv_heads = 3,
                           .head_dim = 64};
  std::mt19937 random(kSeed);
  std::normal_distribution<float> normal;
  std::vector<float> together(kRows * kWidth);
  std::vector<float> cos_sin(kRows * 64);
  for (float& x : together) x = normal(random);
  for (float& x : cos_sin) x = normal(random);
  std::vector<float> apart = together;
  std::vector<int32_t> pages(layout.num_pages);
  for (size_t i = 0; i < pages.size(); ++i) {
    pages[i] = static_cast<int32_t>(pages.size() - 1 - i);
  }
  std::vector<std::byte> pool_together(layout.total_bytes());
  std::vector<std::byte> pool_apart(layout.total_bytes());
  const KvSequence all = {0, kRows, 0, pages.data()};
  ASSERT_TRUE(backend_
                  ->RopeStoreKv({together.data(),
                                 cos_sin.data(),
                                 {pool_together.data(), layout},
                                 &all,
                                 1,
                                 9,
                                 64,
                                 RopeLayout::kInterleaved})
                  .ok());
  for (int64_t r = 0; r < kRows; ++r) {
    const KvSequence one = {r, 1, r, pages.data()};
    ASSERT_TRUE(backend_
                    ->RopeStoreKv({apart.data(),
                                   cos_sin.data(),
                                   {pool_apart.data(), layout},
                                   &one,
                                   1,
                                   9,
                                   64,
                                   RopeLayout::kInterleaved})
                    .ok());
  }
  EXPECT_EQ(std::memcmp(together.data(), apart.data(),
                        together.size() * sizeof(float)),
            0);
  EXPECT_EQ(pool_together, pool_apart);
}

TEST_P(RopeTest, EmptyOperationsDoNothing) {
  EXPECT_TRUE(backend_->RopeTable({}).ok());
  EXPECT_TRUE(backend_->RopeStoreKv({}).ok());
}

INSTANTIATE_TEST_SUITE_P(Cpu, RopeTest, testing::ValuesIn(CpuVariants()),
                         CpuVariantName);

}  // namespace
}  // namespace sentencekv
