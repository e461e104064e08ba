// A row's attention has the same bits however rows are spread over steps,
// sequences, chunks and threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "tests/support/cpu_levels.h"
#include "tests/support/paged_sequences.h"

namespace sentencekv {
namespace {

constexpr uint32_t kSeed = 20240614;

class AttentionBatchingTest : public testing::TestWithParam<CpuLevel> {
 protected:
  Backend& backend(int num_threads) {
    std::unique_ptr<Backend>& backend = backends_[num_threads];
    if (backend == nullptr) backend = MakeVariant({GetParam(), num_threads});
    return *backend;
  }

  // Runs the rows of `step` as other sequences would have them.
  std::vector<float> Run(const PagedStep& step,
                         const std::vector<KvSequence>& sequences,
                         int num_threads) {
    std::vector<float> out;
    AttentionParams params = step.Params(out);
    params.sequences = sequences.data();
    params.num_sequences = static_cast<int64_t>(sequences.size());
    const absl::Status status = backend(num_threads).Attention(params);
    EXPECT_TRUE(status.ok()) << status.ToString();
    EXPECT_TRUE(backend(num_threads).Synchronize().ok());
    return out;
  }

  std::unique_ptr<Backend> backends_[6];
};

// Rows begin..end-1 of a sequence of a step.
KvSequence RowsOf(const KvSequence& whole, int64_t begin, int64_t end) {
  return {whole.row_begin + begin, end - begin, whole.position + begin,
          whole.pages};
}

// Cuts every sequence into chunks of 1 to `longest` rows, in random order.
std::vector<KvSequence> CutAtRandom(const std::vector<KvSequence>& sequences,
                                    int64_t longest, std::mt19937& random) {
  std::vector<KvSequence> chunks;
  std::uniform_int_distribution<int64_t> length(1, longest);
  for (const KvSequence& sequence : sequences) {
    for (int64_t begin = 0; begin < sequence.num_rows;) {
      const int64_t end = std::min(sequence.num_rows, begin + length(random));
      chunks.push_back(RowsOf(sequence, begin, end));
      begin = end;
    }
  }
  std::shuffle(chunks.begin(), chunks.end(), random);
  return chunks;
}

// Index of the first element that differs in bits; -1 when none does.
int64_t FirstDifference(const std::vector<float>& a,
                        const std::vector<float>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::memcmp(&a[i], &b[i], sizeof(float)) != 0) {
      return static_cast<int64_t>(i);
    }
  }
  return -1;
}

TEST_P(AttentionBatchingTest, BitsDoNotDependOnChunks) {
  std::mt19937 random(kSeed);
  for (const int64_t group : {1, 3, 4, 8, 13}) {
    for (const int64_t dim : {64, 40, 128}) {
      for (const DType dtype : {DType::kF16, DType::kF32, DType::kBF16}) {
        if (dtype != DType::kF16 && group != 3) continue;
        SCOPED_TRACE(fmt::format("group {} dim {} {} seed {}", group, dim,
                                 Name(dtype), kSeed));
        const PagedStep step({.num_heads = 2 * group,
                              .num_kv_heads = 2,
                              .head_dim = dim,
                              .dtype = dtype},
                             {{0, 150}, {37, 30}}, kSeed);
        const std::vector<float> whole = Run(step, step.sequences(), 1);
        for (const int64_t longest : {1, 2, 7, 20, 80, 150}) {
          const std::vector<KvSequence> chunks =
              CutAtRandom(step.sequences(), longest, random);
          for (const int threads : {1, 2, 5}) {
            ASSERT_EQ(FirstDifference(Run(step, chunks, threads), whole), -1)
                << "chunks up to " << longest << ", threads " << threads;
          }
        }
      }
    }
  }
}

TEST_P(AttentionBatchingTest, BitsDoNotDependOnTheSplittingOfPartitions) {
  std::mt19937 random(kSeed);
  for (const int64_t group : {3, 4}) {
    SCOPED_TRACE(fmt::format("group {} seed {}", group, kSeed));
    const PagedStep step({.num_heads = group, .num_kv_heads = 1},
                         {{2000, 120}, {1020, 10}}, kSeed);
    const std::vector<float> whole = Run(step, step.sequences(), 1);
    for (const int64_t longest : {1, 3, 6, 50, 120}) {
      const std::vector<KvSequence> chunks =
          CutAtRandom(step.sequences(), longest, random);
      for (const int threads : {1, 2, 5}) {
        ASSERT_EQ(FirstDifference(Run(step, chunks, threads), whole), -1)
            << "chunks up to " << longest << ", threads " << threads;
      }
    }
  }
}

// Decoding as it happens: one row at a time, each a step of its own, so that
// two threads and more share it by partitions.
TEST_P(AttentionBatchingTest, DecodingAloneEqualsPrefill) {
  const PagedStep step({.num_heads = 9, .num_kv_heads = 3}, {{0, 2100}}, kSeed);
  const KvSequence& all = step.sequences()[0];
  const std::vector<float> whole = Run(step, step.sequences(), 2);
  for (int64_t row = 0; row < 2100; ++row) {
    // All positions near the ends of blocks and partitions, and some others.
    const int64_t in_block = row % 64;
    if (row >= 130 && in_block > 1 && in_block < 63 && row % 37 != 0) continue;
    for (const int threads : {1, 2, 5}) {
      const std::vector<float> alone =
          Run(step, {RowsOf(all, row, row + 1)}, threads);
      const auto begin = static_cast<size_t>(row * step.out_width());
      ASSERT_EQ(std::memcmp(&alone[begin], &whole[begin],
                            step.out_width() * sizeof(float)),
                0)
          << "row " << row << ", threads " << threads << ", seed " << kSeed;
    }
  }
}

// The portable level only rounds once more where the others fuse: the levels
// agree to the tolerance of the naive test, not in bits.
TEST_P(AttentionBatchingTest, LevelsAgreeClosely) {
  const PagedStep step({.num_heads = 3, .num_kv_heads = 1}, {{0, 200}}, kSeed);
  const std::vector<float> out = Run(step, step.sequences(), 1);
  std::vector<float> portable;
  ASSERT_TRUE(MakeVariant({CpuLevel::kPortable, 1})
                  ->Attention(step.Params(portable))
                  .ok());
  for (size_t i = 0; i < out.size(); ++i) {
    ASSERT_NEAR(out[i], portable[i], 8e-6 * step.max_value()) << i;
  }
}

std::vector<CpuLevel> Levels() {
  std::vector<CpuLevel> levels;
  for (const CpuVariant& variant : CpuVariants()) {
    if (variant.num_threads == 1) levels.push_back(variant.level);
  }
  return levels;
}

INSTANTIATE_TEST_SUITE_P(Cpu, AttentionBatchingTest,
                         testing::ValuesIn(Levels()),
                         [](const testing::TestParamInfo<CpuLevel>& info) {
                           return std::string(Name(info.param));
                         });

}  // namespace
}  // namespace sentencekv
