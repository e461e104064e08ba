// Packing through the backend, read back with UnpackRow: which formats keep
// every value, how far the others may be off, and how parts are stacked.
#include "kernels/cpu/weight_packing.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/weight_layout.h"
#include "kernels/half.h"
#include "tests/support/random_matrix.h"

namespace sentencekv {
namespace {

using testing::HasSubstr;

std::unique_ptr<Backend> MakeBackend(int num_threads = 2) {
  return std::move(MakeCpuBackend({.num_threads = num_threads})).value();
}

std::vector<float> Unpack(const WeightMatrix& matrix, int64_t row) {
  std::vector<float> values(static_cast<size_t>(matrix.cols));
  UnpackRow(matrix, row, values.data());
  return values;
}

// The largest magnitude of the 32 columns that hold column i.
float LargestOfBlock(const std::vector<float>& row, size_t i) {
  float largest = 0;
  for (size_t j = i / 32 * 32; j < std::min(i / 32 * 32 + 32, row.size());
       ++j) {
    largest = std::max(largest, std::fabs(row[j]));
  }
  return largest;
}

// How far an unpacked value may be from the checkpoint's, as a share of the
// largest magnitude of its 32 columns.
struct TypeCase {
  SourceType type;
  double tolerance;
};

// Q4_0, Q4_1, Q8_0 and Q5_0 keep their integers and f16 scales: only the one
// rounding of scale * q + minimum in f32 may differ. Q4_K's products of scales
// are rounded to f16, 2^-11 each. The others are rounded to 127 levels each
// side, half a level, plus the f16 rounding of the scale.
constexpr double kExact = 0x1p-22;
constexpr double kHalfScales = 3 * 0x1p-11;
constexpr double kRequantized = 0.5 / 127 + 0x1p-11;

class PackingTest : public testing::TestWithParam<TypeCase> {};

TEST_P(PackingTest, UnpacksToTheCheckpointsValues) {
  auto backend = MakeBackend();
  const SourceType type = GetParam().type;
  const int64_t block = BlockElements(type);
  for (const int64_t rows : {1, 15, 16, 17, 37}) {
    for (const int64_t cols : {block, 3 * block, 7 * block}) {
      const RandomMatrix matrix(type, rows, cols, 42);
      const MatrixSource source = matrix.source();
      auto packed = backend->PackWeights({&source, 1});
      ASSERT_TRUE(packed.ok()) << packed.status();
      EXPECT_EQ(packed->format, PackedFormat(type));
      EXPECT_EQ(packed->rows, rows);
      EXPECT_EQ(packed->cols, cols);
      for (int64_t row = 0; row < rows; ++row) {
        const std::vector<float> expected = matrix.Row(row);
        const std::vector<float> actual = Unpack(*packed, row);
        for (size_t i = 0; i < expected.size(); ++i) {
          // Scale and minimum may cancel, so the bound is on both.
          ASSERT_NEAR(actual[i], expected[i],
                      GetParam().tolerance *
                          std::max(LargestOfBlock(expected, i), 4.0f))
              << "row " << row << " column " << i << " of " << rows << " x "
              << cols;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    AllTypes, PackingTest,
    testing::Values(TypeCase{SourceType::kF32, 0},
                    TypeCase{SourceType::kF16, 0},
                    TypeCase{SourceType::kBF16, 0},
                    TypeCase{SourceType::kQ8_0, kExact},
                    TypeCase{SourceType::kQ5_0, kExact},
                    TypeCase{SourceType::kQ4_0, kExact},
                    TypeCase{SourceType::kQ4_1, kExact},
                    TypeCase{SourceType::kQ4_K, kHalfScales},
                    TypeCase{SourceType::kQ5_1, kRequantized},
                    TypeCase{SourceType::kQ5_K, kRequantized},
                    TypeCase{SourceType::kQ6_K, kRequantized}),
    [](const auto& info) { return std::string(Name(info.param.type)); });

// Rows of all parts, in order, across panel boundaries.
TEST(PackWeights, StacksParts) {
  auto backend = MakeBackend();
  const RandomMatrix q(SourceType::kQ4_1, 20, 64, 1);
  const RandomMatrix k(SourceType::kQ4_1, 5, 64, 2);
  const RandomMatrix v(SourceType::kQ4_0, 30, 64, 3);
  const MatrixSource parts[] = {q.source(), k.source(), v.source()};
  auto packed = backend->PackWeights(parts);
  ASSERT_TRUE(packed.ok());
  EXPECT_EQ(packed->rows, 55);
  EXPECT_EQ(packed->format, WeightFormat::kQ4);
  for (int64_t row = 0; row < 55; ++row) {
    const std::vector<float> expected = row < 20   ? q.Row(row)
                                        : row < 25 ? k.Row(row - 20)
                                                   : v.Row(row - 25);
    const std::vector<float> actual = Unpack(*packed, row);
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_NEAR(actual[i], expected[i], 1e-6) << row << " " << i;
    }
  }
}

TEST(PackWeights, TakesTheMostPreciseFormat) {
  struct Mix {
    std::vector<SourceType> types;
    WeightFormat format;
  };
  const Mix mixes[] = {
      {{SourceType::kQ4_0, SourceType::kQ4_K}, WeightFormat::kQ4},
      {{SourceType::kQ4_1, SourceType::kQ6_K}, WeightFormat::kQ8},
      {{SourceType::kQ8_0, SourceType::kQ4_1}, WeightFormat::kQ8},
      {{SourceType::kQ4_1, SourceType::kBF16}, WeightFormat::kBF16},
      {{SourceType::kF16, SourceType::kQ8_0}, WeightFormat::kF16},
      {{SourceType::kF16, SourceType::kF32}, WeightFormat::kF32},
      // Each holds values that the other cannot.
      {{SourceType::kF16, SourceType::kBF16}, WeightFormat::kF32},
      {{SourceType::kBF16, SourceType::kQ4_1, SourceType::kF16},
       WeightFormat::kF32},
  };
  auto backend = MakeBackend();
  for (const Mix& mix : mixes) {
    std::vector<RandomMatrix> matrices;
    std::vector<MatrixSource> parts;
    for (const SourceType type : mix.types) {
      matrices.emplace_back(type, 3, 256, 5);
    }
    for (const RandomMatrix& matrix : matrices) {
      parts.push_back(matrix.source());
    }
    auto packed = backend->PackWeights(parts);
    ASSERT_TRUE(packed.ok()) << packed.status();
    EXPECT_EQ(packed->format, mix.format)
        << Name(mix.types[0]) << " and " << Name(mix.types[1]);
    for (int64_t row = 0; row < packed->rows; ++row) {
      const std::vector<float> expected =
          matrices[static_cast<size_t>(row / 3)].Row(row % 3);
      const std::vector<float> actual = Unpack(*packed, row);
      for (size_t i = 0; i < expected.size(); ++i) {
        // The coarsest rounding on the way, to bf16 or to 127 levels.
        ASSERT_NEAR(actual[i], expected[i],
                    (kRequantized + 0x1p-9) * LargestOfBlock(expected, i))
            << row << " " << i;
      }
    }
  }
}

// The padding of the last panel is zeros, so that kernels may read it.
TEST(PackWeights, PadsWithZeros) {
  auto backend = MakeBackend();
  for (const SourceType type :
       {SourceType::kF32, SourceType::kQ4_1, SourceType::kQ8_0}) {
    const RandomMatrix matrix(type, 17, 64, 9);
    const MatrixSource source = matrix.source();
    auto packed = backend->PackWeights({&source, 1});
    ASSERT_TRUE(packed.ok());
    ASSERT_EQ(packed->data.size_bytes(),
              static_cast<size_t>(2 * PanelBytes(packed->format, 64)));
    for (int64_t row = 17; row < 32; ++row) {
      EXPECT_EQ(Unpack(*packed, row), std::vector<float>(64, 0.0f));
    }
  }
}

// Bytes from a hostile file: extreme and undefined scales must not fault.
TEST(PackWeights, AcceptsAnyBytes) {
  auto backend = MakeBackend();
  for (int type = 0; type <= static_cast<int>(SourceType::kQ6_K); ++type) {
    const auto source_type = static_cast<SourceType>(type);
    for (const int fill : {0x00, 0x7f, 0x80, 0xff}) {
      const int64_t block = BlockElements(source_type);
      const std::vector<std::byte> bytes(
          static_cast<size_t>(17 * 256 / block * BlockBytes(source_type)),
          static_cast<std::byte>(fill));
      const MatrixSource source = {bytes.data(), source_type, 17, 256};
      auto packed = backend->PackWeights({&source, 1});
      ASSERT_TRUE(packed.ok());
      Unpack(*packed, 16);
    }
  }
}

TEST(PackWeights, RefusesWrongArguments) {
  auto backend = MakeBackend(1);
  const std::vector<std::byte> bytes(4096);
  const auto source = [&](SourceType type, int64_t rows, int64_t cols) {
    return MatrixSource{bytes.data(), type, rows, cols};
  };
  struct Bad {
    std::vector<MatrixSource> parts;
    std::string message;
  };
  const Bad cases[] = {
      {{}, "no parts"},
      {{{nullptr, SourceType::kF32, 1, 32}}, "data is null"},
      {{source(SourceType::kF32, 0, 32)}, "rows must be in 1.."},
      {{source(SourceType::kF32, -5, 32)}, "got -5"},
      {{source(SourceType::kF32, 1, 0)}, "cols must be in 1.."},
      {{source(static_cast<SourceType>(99), 1, 32)}, "type must be in"},
      {{source(SourceType::kF32, 1, 32), source(SourceType::kF32, 1, 64)},
       "cols of the parts differ: 32 and 64"},
      {{source(SourceType::kQ8_0, 1, 33)}, "cols 33 is not a multiple of 32"},
      {{source(SourceType::kQ4_K, 1, 128)},
       "cols 128 is not a multiple of 256"},
      {{source(SourceType::kF32, int64_t{1} << 31, 1),
        source(SourceType::kF32, 1, 1)},
       "rows of all parts"},
  };
  for (const Bad& bad : cases) {
    const absl::Status status = backend->PackWeights(bad.parts).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message));
  }
}

TEST(Embed, GivesTheRowsOfEveryFormat) {
  for (const CpuLevel level : {CpuLevel::kPortable, DetectCpuLevel()}) {
    auto backend =
        std::move(MakeCpuBackend({.num_threads = 2, .level = level})).value();
    for (const SourceType type :
         {SourceType::kF32, SourceType::kF16, SourceType::kBF16,
          SourceType::kQ4_1, SourceType::kQ8_0}) {
      const RandomMatrix matrix(type, 50, 96, 3);
      const MatrixSource source = matrix.source();
      auto table = backend->PackWeights({&source, 1});
      ASSERT_TRUE(table.ok());
      // Enough tokens for several threads, with repetitions.
      std::vector<int32_t> tokens;
      for (int32_t i = 0; i < 400; ++i) tokens.push_back(i * 7 % 50);
      std::vector<float> out(400 * 96);
      for (const int64_t num_tokens : {1, 3, 400}) {
        ASSERT_TRUE(backend
                        ->Embed({.table = &*table,
                                 .tokens = tokens.data(),
                                 .out = out.data(),
                                 .num_tokens = num_tokens})
                        .ok());
        for (int64_t i = 0; i < num_tokens; ++i) {
          const std::vector<float> row(out.begin() + i * 96,
                                       out.begin() + (i + 1) * 96);
          ASSERT_EQ(row, Unpack(*table, tokens[static_cast<size_t>(i)]));
        }
      }
    }
  }
}

}  // namespace
}  // namespace sentencekv
