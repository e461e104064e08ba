// Entries of sentences made on the device, against those of the CPU backend.
#include "kernels/cuda/sentence_index_kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "fmt/format.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/cuda/device_step.h"
#include "tests/cuda/sentence_entries.h"
#include "tests/cuda/simulated_device.h"

namespace sentencekv {
namespace {

constexpr SentenceIndexKind kKinds[] = {SentenceIndexKind::kMean,
                                        SentenceIndexKind::kMinMax,
                                        SentenceIndexKind::kSign};

// Entries first, first + stride... of the sentences; the others stay zeros.
void BuildOnDevice(cuda_sim::SimDevice& device, const PagedStep& step,
                   int64_t first, int64_t stride, SentenceEntries* entries) {
  std::byte* const blocks = device.Upload(entries->blocks);
  std::byte* const signs = device.Upload(entries->signs);
  // The pages of each sentence alone, as a task may bring them.
  std::vector<int32_t> pages;
  std::vector<IndexSentenceTask> tasks;
  for (int64_t i = first; i < entries->count(); i += stride) {
    const int64_t begin_page = entries->begin(i) / kPageTokens;
    const int64_t end_page = (entries->ends[i] - 1) / kPageTokens + 1;
    tasks.push_back({.kind = entries->kind,
                     .page_begin = std::ssize(pages) - begin_page,
                     .begin = entries->begin(i),
                     .end = entries->ends[i],
                     .entry = i,
                     .blocks = blocks,
                     .head_stride = entries->head_bytes,
                     .signs = signs,
                     .sign_stride = entries->sign_bytes});
    const int32_t* from = step.sequences()[0].pages;
    pages.insert(pages.end(), from + begin_page, from + end_page);
  }
  const IndexSentencesLaunch launch = {.kv = DeviceStep(device, step).kv(),
                                       .tasks = device.Upload(tasks),
                                       .num_tasks = std::ssize(tasks),
                                       .pages = device.Upload(pages)};
  EXPECT_EQ(LaunchIndexSentences(launch, device.stream()), cudaSuccess);
  entries->blocks = device.Download(blocks, entries->blocks.size());
  entries->signs = device.Download(signs, entries->signs.size());
}

void ExpectEntries(const SentenceEntries& cuda, const SentenceEntries& cpu) {
  ASSERT_EQ(cuda.blocks.size(), cpu.blocks.size());
  for (int64_t g = 0; g < cpu.num_heads; ++g) {
    for (int64_t i = 0; i < cpu.count(); ++i) {
      for (int64_t v = 0; v < NumEntryVectors(cpu.kind); ++v) {
        const int64_t offset = cpu.VectorOffset(g, i, v);
        const int64_t slot = i % kBlockEntries;
        for (int64_t d = 0; d < cpu.dim; ++d) {
          const int actual =
              static_cast<int8_t>(cuda.blocks[offset + CudaElement(slot, d)]);
          const bool is_deviation =
              cpu.kind == SentenceIndexKind::kSign && v == 1;
          const int expected = static_cast<int8_t>(
              cpu.blocks[offset + CpuElement(is_deviation, cpu.dim, slot, d)]);
          // Sums in another order may round to the next element; a box has no
          // sums.
          const int off = cpu.kind == SentenceIndexKind::kMinMax ? 0 : 1;
          ASSERT_LE(std::abs(actual - expected), off)
              << "head " << g << " sentence " << i << " vector " << v
              << " element " << d << ": " << actual << " for " << expected;
        }
        ASSERT_NEAR(cuda.Unit(g, i, v), cpu.Unit(g, i, v),
                    2e-6 * cpu.Unit(g, i, v))
            << "head " << g << " sentence " << i << " vector " << v;
      }
    }
  }
}

// Share of elements that are not the CPU's.
double ShareOff(const SentenceEntries& cuda, const SentenceEntries& cpu) {
  const std::vector<std::byte> expected = cpu.TurnedBlocks();
  int64_t off = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    off += cuda.blocks[i] != expected[i] ? 1 : 0;
  }
  return static_cast<double>(off) / static_cast<double>(expected.size());
}

void ExpectSigns(const SentenceEntries& cuda, const PagedStep& step) {
  for (int64_t g = 0; g < cuda.num_heads; ++g) {
    for (int64_t i = 0; i < cuda.count(); ++i) {
      for (int64_t d = 0; d < cuda.dim; ++d) {
        double mean = 0;
        for (int64_t p = cuda.begin(i); p < cuda.ends[i]; ++p) {
          mean += static_cast<double>(step.Key(0, p, g, d)) /
                  static_cast<double>(cuda.ends[i] - cuda.begin(i));
        }
        for (int64_t p = cuda.begin(i); p < cuda.ends[i]; ++p) {
          const double off = step.Key(0, p, g, d) - mean;
          // A key at the mean may fall on either side.
          if (std::fabs(off) < 1e-5) continue;
          ASSERT_EQ(cuda.Sign(g, p, d), off > 0)
              << "head " << g << " position " << p << " element " << d;
        }
      }
    }
  }
}

// The pool is NaN wherever no token is.
TEST(CudaSentenceIndex, EqualsTheCpu) {
  const auto cpu_backend = MakeCpuBackend({.num_threads = 1}).value();
  for (const DType dtype : {DType::kF16, DType::kF32, DType::kBF16}) {
    for (const int64_t dim : {8, 40, 64, 128, 256}) {
      const PagedStep step(
          {.num_heads = 4, .num_kv_heads = 2, .head_dim = dim, .dtype = dtype},
          {{199, 1}}, 5);
      for (const SentenceIndexKind kind : kKinds) {
        SCOPED_TRACE(fmt::format("{} {} kind {}", Name(dtype), dim,
                                 static_cast<int>(kind)));
        const SentenceEntries empty(kind, dim, 2, SomeEnds(200));
        SentenceEntries cpu = empty;
        cpu.Build(*cpu_backend, step);
        ForSeeds(dim == 8 ? 20 : 3, [&](cuda_sim::SimDevice& device) {
          SentenceEntries cuda = empty;
          BuildOnDevice(device, step, 0, 1, &cuda);
          ExpectEntries(cuda, cpu);
          EXPECT_LE(ShareOff(cuda, cpu), 0.05);  // units, mostly
          if (kind == SentenceIndexKind::kSign) ExpectSigns(cuda, step);
        });
      }
    }
  }
}

// By halves, in two operations: the same bytes. Neighbours share words of
// signs.
TEST(CudaSentenceIndex, AnEntryDependsOnItsSentenceAlone) {
  const PagedStep step({.num_heads = 1, .num_kv_heads = 1, .head_dim = 24},
                       {{199, 1}}, 6);
  for (const SentenceIndexKind kind : kKinds) {
    const SentenceEntries empty(kind, 24, 1, SomeEnds(200));
    ForSeeds(20, [&](cuda_sim::SimDevice& device) {
      SentenceEntries at_once = empty;
      BuildOnDevice(device, step, 0, 1, &at_once);
      SentenceEntries by_halves = empty;
      BuildOnDevice(device, step, 1, 2, &by_halves);
      BuildOnDevice(device, step, 0, 2, &by_halves);
      EXPECT_EQ(at_once.blocks, by_halves.blocks);
      EXPECT_EQ(at_once.signs, by_halves.signs);
    });
  }
}

TEST(CudaSentenceIndex, KeysOfZerosGiveZeros) {
  const PagedStep step({.num_heads = 1, .num_kv_heads = 1, .head_dim = 16},
                       {{39, 1}}, 6, 0.0f);
  for (const SentenceIndexKind kind : kKinds) {
    const SentenceEntries empty(kind, 16, 1, SomeEnds(40));
    ForSeeds(3, [&](cuda_sim::SimDevice& device) {
      SentenceEntries entries = empty;
      BuildOnDevice(device, step, 0, 1, &entries);
      EXPECT_EQ(entries.blocks, empty.blocks);
      EXPECT_EQ(entries.signs, empty.signs);
    });
  }
}

}  // namespace
}  // namespace sentencekv
