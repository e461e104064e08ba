// RopeTable, RopeStoreKv, CopyPages and ReadKeys of the CUDA backend, against
// the CPU's. The two keep K in different orders: [D][P] and [P][D].
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "fmt/format.h"
#include "gtest/gtest.h"
#include "kernels/half.h"
#include "tests/cuda/backend_under_test.h"
#include "tests/support/random_matrix.h"

namespace sentencekv {
namespace {

class KvOperationsTest : public CudaBackendTest {};

INSTANTIATE_TEST_SUITE_P(Seeds, KvOperationsTest,
                         testing::ValuesIn(DeviceSeeds()));

TEST_P(KvOperationsTest, TablesOfAnglesEqualTheCpus) {
  const std::vector<int32_t> positions = {
      0, 1, 2, 4095, 131072, 1'000'003, 2'000'000'000};
  for (const int64_t half : {1, 3, 16, 37, 64}) {
    for (const float magnitude : {1.0f, 1.25f}) {
      SCOPED_TRACE(fmt::format("half {} magnitude {}", half, magnitude));
      std::vector<float> frequency(half);
      for (int64_t i = 0; i < half; ++i) {
        frequency[i] = static_cast<float>(
            std::pow(10000.0, -static_cast<double>(i) / half));
      }
      std::vector<float> expected(positions.size() * half * 2);
      RopeTableParams params = {positions.data(),
                                frequency.data(),
                                expected.data(),
                                std::ssize(positions),
                                half,
                                magnitude};
      ASSERT_TRUE(cpu_->RopeTable(params).ok());
      const Buffer frequencies = Upload(frequency);
      const Buffer out = Upload(std::vector<float>(expected.size(), -2.0f));
      params.inverse_frequency = frequencies.as<float>();
      params.cos_sin = out.as<float>();
      ASSERT_TRUE(backend_->RopeTable(params).ok());
      const std::vector<float> actual = Download<float>(out);
      for (size_t i = 0; i < expected.size(); ++i) {
        // Both are computed in double.
        ASSERT_NEAR(actual[i], expected[i], 2e-7) << i;
      }
    }
  }
}

// An element of a pool, as float.
float Element(const std::vector<std::byte>& pool, DType dtype, int64_t index) {
  const std::byte* at = pool.data() + index * SizeOf(dtype);
  uint32_t bits = 0;
  std::memcpy(&bits, at, static_cast<size_t>(SizeOf(dtype)));
  switch (dtype) {
    case DType::kF32:
      return __builtin_bit_cast(float, bits);
    case DType::kF16:
      return F16ToF32(static_cast<uint16_t>(bits));
    case DType::kBF16:
      break;
  }
  return Bf16ToF32(static_cast<uint16_t>(bits));
}

// What rounding to a type changes at most, relatively.
float Step(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0;
    case DType::kF16:
      return 0x1p-10f;
    case DType::kBF16:
      break;
  }
  return 0x1p-7f;
}

// The CPU's pool in the order of the CUDA backend.
std::vector<float> TokenMajor(const std::vector<std::byte>& pool,
                              const KvLayout& layout) {
  const int64_t run = kPageTokens * layout.head_dim;
  std::vector<float> values;
  for (int64_t k = 0; k < std::ssize(pool) / layout.head_bytes(); ++k) {
    for (int64_t i = 0; i < 2 * run; ++i) {
      const int64_t token = i / layout.head_dim;
      const int64_t d = i % layout.head_dim;
      const int64_t at = i < run ? d * kPageTokens + token : i;
      values.push_back(Element(pool, layout.dtype, 2 * run * k + at));
    }
  }
  return values;
}

struct RopeCase {
  int64_t num_heads;
  int64_t num_kv_heads;
  int64_t head_dim;
  int64_t rotary_dims;
  bool is_per_head = false;
};

class RopeStoreTest : public CudaBackendTest {
 protected:
  void Check(const RopeCase& c, RopeLayout rope_layout, DType dtype) {
    constexpr int64_t kTokens = 23;  // 5 at position 14 and 18 at position 0
    const std::vector<int32_t> first = {4, 1};
    const std::vector<int32_t> second = {0, 5};
    const KvSequence sequences[] = {{5, 5, 14, first.data()},
                                    {10, 18, 0, second.data()}};
    const KvLayout layout = {.num_layers = 1,
                             .num_pages = 6,
                             .num_kv_heads = c.num_kv_heads,
                             .head_dim = c.head_dim,
                             .dtype = dtype};
    const int64_t width = (c.num_heads + 2 * c.num_kv_heads) * c.head_dim;
    // Rows 0..4 belong to no sequence.
    std::vector<float> expected = RandomFloats((kTokens + 5) * width, 21);
    const std::vector<float> cos_sin =
        RandomFloats((kTokens + 5) * c.rotary_dims, 22);
    std::vector<std::byte> expected_pool(layout.total_bytes(), std::byte{0x35});
    const Buffer qkv = Upload(expected);
    const Buffer pool = Upload(expected_pool);
    const Buffer angles = Upload(cos_sin);
    RopeStoreKvParams params = {expected.data(),
                                cos_sin.data(),
                                {expected_pool.data(), layout, c.is_per_head},
                                sequences,
                                2,
                                c.num_heads,
                                c.rotary_dims,
                                rope_layout};
    ASSERT_TRUE(cpu_->RopeStoreKv(params).ok());
    params.qkv = qkv.as<float>();
    params.cos_sin = angles.as<float>();
    params.kv.base = pool.as<std::byte>();
    ASSERT_TRUE(backend_->RopeStoreKv(params).ok());

    const std::vector<float> turned = Download<float>(qkv);
    for (size_t i = 0; i < turned.size(); ++i) {
      ASSERT_NEAR(turned[i], expected[i], 1e-6 * (1 + std::fabs(expected[i])))
          << "qkv " << i;
    }
    const std::vector<std::byte> stored = Download<std::byte>(pool);
    const std::vector<float> reference = TokenMajor(expected_pool, layout);
    for (int64_t i = 0; i < std::ssize(reference); ++i) {
      ASSERT_NEAR(Element(stored, dtype, i), reference[i],
                  Step(dtype) * std::fabs(reference[i]) +
                      1e-6 * (1 + std::fabs(reference[i])))
          << "pool " << i;
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, RopeStoreTest,
                         testing::ValuesIn(DeviceSeeds()));

TEST_P(RopeStoreTest, TurnsAndStoresLikeTheCpu) {
  const RopeCase cases[] = {
      {1, 1, 8, 2},     {3, 1, 8, 8},
      {6, 3, 24, 14},   {2, 1, 72, 18},
      {4, 2, 64, 64},   {3, 3, 128, 128},
      {2, 1, 256, 130}, {2, 1, 40, 40, /*is_per_head=*/true}};
  for (const RopeCase& c : cases) {
    for (const RopeLayout rope_layout :
         {RopeLayout::kInterleaved, RopeLayout::kHalves}) {
      for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
        SCOPED_TRACE(fmt::format("{} + {} heads of {}, {} turned, layout {} {}",
                                 c.num_heads, c.num_kv_heads, c.head_dim,
                                 c.rotary_dims, static_cast<int>(rope_layout),
                                 Name(dtype)));
        Check(c, rope_layout, dtype);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(KvOperationsTest, CopiesPagesOneAfterTheOther) {
  // Page 3 goes to 1, from there to 4; 2 to itself.
  const std::vector<int32_t> source = {3, 1, 2, 0};
  const std::vector<int32_t> destination = {1, 4, 2, 3};
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int64_t head_dim : {8, 64}) {
      for (const int64_t num_layers : {1, 3}) {
        const KvLayout layout = {.num_layers = num_layers,
                                 .num_pages = 5,
                                 .num_kv_heads = 3,
                                 .head_dim = head_dim,
                                 .dtype = dtype};
        std::vector<std::byte> expected(layout.total_bytes());
        for (size_t i = 0; i < expected.size(); ++i) {
          expected[i] = static_cast<std::byte>(i * 2654435761u >> 13);
        }
        const Buffer pool = Upload(expected);
        ASSERT_TRUE(cpu_->CopyPages({layout, expected.data(), source.data(),
                                     destination.data(), 4})
                        .ok());
        ASSERT_TRUE(backend_
                        ->CopyPages({layout, pool.data(), source.data(),
                                     destination.data(), 4})
                        .ok());
        EXPECT_EQ(Download<std::byte>(pool), expected);
      }
    }
  }
}

TEST_P(KvOperationsTest, CopiesRowsOfBytes) {
  std::vector<std::byte> from(600);
  for (size_t i = 0; i < from.size(); ++i) {
    from[i] = static_cast<std::byte>(i * 2654435761u >> 13);
  }
  // Rows that touch, in either place, and rows that do not.
  for (const int64_t row_bytes : {1, 8, 40}) {
    for (const auto& [from_stride, to_stride] :
         {std::pair{40, 56}, {56, 40}, {40, 40}}) {
      SCOPED_TRACE(fmt::format("{} bytes, every {} to every {}", row_bytes,
                               from_stride, to_stride));
      std::vector<std::byte> expected(600, std::byte{7});
      const Buffer source = Upload(from);
      const Buffer destination = Upload(expected);
      const CopyRowsParams rows = {.source_stride = from_stride,
                                   .destination_stride = to_stride,
                                   .row_bytes = row_bytes,
                                   .num_rows = 10};
      CopyRowsParams there = rows;
      there.source = source.as<std::byte>() + 3;
      there.destination = destination.as<std::byte>() + 5;
      CopyRowsParams here = rows;
      here.source = from.data() + 3;
      here.destination = expected.data() + 5;
      ASSERT_TRUE(cpu_->CopyRows(here).ok());
      ASSERT_TRUE(backend_->CopyRows(there).ok());
      EXPECT_EQ(Download<std::byte>(destination), expected);
    }
  }
}

TEST_P(KvOperationsTest, ReadsKeys) {
  const std::vector<int32_t> pages = {4, 0, 3};
  const std::vector<int32_t> positions = {47, 0, 16, 15, 31, 0};
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const int64_t head_dim : {8, 72, 128}) {
      for (const bool is_per_head : {false, true}) {
        SCOPED_TRACE(fmt::format("{} of {}, per head: {}", Name(dtype),
                                 head_dim, is_per_head));
        const KvLayout layout = {.num_layers = 1,
                                 .num_pages = 5,
                                 .num_kv_heads = 3,
                                 .head_dim = head_dim,
                                 .dtype = dtype};
        // Bytes that are small numbers in every type.
        std::vector<std::byte> bytes(layout.total_bytes());
        for (size_t i = 0; i < bytes.size(); ++i) {
          bytes[i] = static_cast<std::byte>((i * 2654435761u >> 13) & 0x3f);
        }
        const Buffer pool = Upload(bytes);
        const KvLayerView view = {pool.as<std::byte>(), layout, is_per_head};
        std::vector<float> actual(positions.size() * head_dim, -1.0f);
        // A copy of some bytes before does not shift the arrays.
        ASSERT_TRUE(backend_->CopyToHost(actual.data(), pool.data(), 4).ok());
        ASSERT_TRUE(backend_
                        ->ReadKeys({view, 2, pages.data(), positions.data(),
                                    std::ssize(positions), actual.data()})
                        .ok());
        for (int64_t i = 0; i < std::ssize(actual); ++i) {
          const int64_t position = positions[i / head_dim];
          const int64_t run =
              (view.head(pages[position / kPageTokens], 2) - view.base) /
              SizeOf(dtype);
          ASSERT_EQ(actual[i], Element(bytes, dtype,
                                       run + position % kPageTokens * head_dim +
                                           i % head_dim))
              << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace sentencekv
