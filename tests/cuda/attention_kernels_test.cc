// Attention on the device against the CPU backend, and its order of arithmetic.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "fmt/format.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/cuda/device_step.h"
#include "tests/cuda/simulated_device.h"

namespace sentencekv {
namespace {

constexpr uint32_t kSeed = 20240611;
// Room for every part, and none; few processors, so that prefill is not cut.
constexpr AttentionDevice kCuts = {.num_processors = 132,
                                   .state_floats = 1 << 20};
constexpr AttentionDevice kCutsNothing = {.num_processors = 1,
                                          .state_floats = 0};

std::vector<float> OnCpu(const PagedStep& step) {
  const auto backend = MakeCpuBackend({.num_threads = 1}).value();
  const std::vector<float> qkv = RoundedActivations(step);
  std::vector<float> out;
  AttentionParams params = step.Params(out);
  params.qkv = qkv.data();
  EXPECT_TRUE(backend->Attention(params).ok());
  EXPECT_TRUE(backend->Synchronize().ok());
  return out;
}

void ExpectCpu(const PagedStep& step, uint64_t num_seeds,
               const AttentionDevice& how = kCuts, double tolerance = 8e-6) {
  const std::vector<float> expected = OnCpu(step);
  ForSeeds(num_seeds, [&](cuda_sim::SimDevice& device) {
    ExpectAttention(step, DeviceStep(device, step).Attend(how), expected,
                    tolerance);
  });
}

// The pool is NaN wherever no token is.
TEST(CudaAttention, DecodesAtEveryLength) {
  for (const int64_t length : {1, 3, 16, 17, 63, 64, 65, 255, 256, 257, 700}) {
    SCOPED_TRACE(fmt::format("length {}", length));
    ExpectCpu(PagedStep({.num_heads = 6, .num_kv_heads = 2}, {{length - 1, 1}},
                        kSeed),
              length < 100 ? 20 : 3);
  }
}

// Of 24 dimensions one product at a time, of 48 on tensor cores.
TEST(CudaAttention, PrefillsAtEveryLength) {
  for (const int64_t length : {3, 16, 17, 37, 64, 65, 270}) {
    for (const int64_t dim : {24, 48}) {
      for (const AttentionDevice& how : {kCuts, kCutsNothing}) {
        SCOPED_TRACE(fmt::format("length {} dim {}", length, dim));
        ExpectCpu(
            PagedStep({.num_heads = 3, .num_kv_heads = 1, .head_dim = dim},
                      {{0, length}}, kSeed),
            dim == 48 && length < 20 ? 20 : 2, how);
      }
    }
  }
}

TEST(CudaAttention, TakesEveryGroupAndHeadSize) {
  for (const int64_t group : {1, 3, 4, 8, 13, 20}) {
    for (const int64_t dim :
         {8, 16, 24, 40, 64, 72, 80, 96, 128, 144, 200, 256}) {
      if (group != 3 && dim != 16 && dim != 64) continue;
      for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
        // A few shapes show where the types differ.
        if (dtype != DType::kBF16 && group != 3) continue;
        SCOPED_TRACE(
            fmt::format("group {} dim {} {}", group, dim, Name(dtype)));
        const AttentionShape shape = {.num_heads = 2 * group,
                                      .num_kv_heads = 2,
                                      .head_dim = dim,
                                      .dtype = dtype};
        ExpectCpu(PagedStep(shape, {{69, 1}, {0, 1}, {40, 9}}, kSeed),
                  dim == 16 ? 3 : 1);
      }
    }
  }
}

TEST(CudaAttention, TakesRaggedBatches) {
  const PagedStep step(
      {.num_heads = 9, .num_kv_heads = 3, .head_dim = 32},
      {{0, 1}, {15, 1}, {16, 1}, {0, 37}, {63, 2}, {299, 1}, {100, 65}, {7, 7}},
      kSeed);
  ExpectCpu(step, 3, kCuts);
  ExpectCpu(step, 3, kCutsNothing);
}

// States for some of the tiles only.
TEST(CudaAttention, CutsWhatFits) {
  const PagedStep step({.num_heads = 4, .num_kv_heads = 2, .head_dim = 16},
                       {{520, 1}, {300, 30}, {700, 1}}, kSeed);
  for (const int64_t floats : {240, 241, 600, 3000}) {
    SCOPED_TRACE(floats);
    ExpectCpu(step, 3, {.num_processors = 132, .state_floats = floats});
  }
}

TEST(CudaAttention, KeepsItsPrecisionWithPeakedScores) {
  // Scores of several hundred: a score's error is 1e-7 of its size, and so is
  // the weights', relative.
  ExpectCpu(PagedStep({.num_heads = 3, .num_kv_heads = 1}, {{500, 1}, {0, 100}},
                      kSeed, 6.0f),
            3, kCuts, 2e-3);
}

// Weights are divided by the sum of what they were rounded to: of values that
// are all one, whatever was rounded, the mean is one.
TEST(CudaAttention, RoundedWeightsAddUpToOne) {
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    PagedStep step({.num_heads = 3, .num_kv_heads = 1, .dtype = dtype},
                   {{299, 1}, {20, 40}}, kSeed);
    for (const size_t sequence : {0, 1}) {
      const int64_t length = sequence == 0 ? 300 : 60;
      for (int64_t i = 0; i < length * 64; ++i) {
        step.SetValue(sequence, i / 64, 0, i % 64, 1.0f);
      }
    }
    ForSeeds(3, [&](cuda_sim::SimDevice& device) {
      for (const float out : DeviceStep(device, step).Attend(kCuts)) {
        ASSERT_NEAR(out, 1.0f, 1e-6f);
      }
    });
  }
}

// A row alone, in a chunk, beside others, its keys cut among blocks or not: one
// product at a time, on tensor cores, and where two warps share a row there.
TEST(CudaAttention, ARowsBitsDependOnItsPositionAlone) {
  for (const int64_t dim : {40, 48, 144}) {
    for (const DType dtype : {DType::kF16, DType::kBF16}) {
      if (dim != 48 && dtype != DType::kBF16) continue;
      SCOPED_TRACE(fmt::format("dim {} {}", dim, Name(dtype)));
      const AttentionShape shape = {
          .num_heads = 6, .num_kv_heads = 2, .head_dim = dim, .dtype = dtype};
      const PagedStep chunk(shape, {{250, 25}}, kSeed);
      const auto width = static_cast<size_t>(chunk.out_width());
      ForSeeds(dim == 48 ? 3 : 1, [&](cuda_sim::SimDevice& device) {
        const DeviceStep chunk_there(device, chunk);
        const std::vector<float> cut = chunk_there.Attend(kCuts);
        const std::vector<float> whole = chunk_there.Attend(kCutsNothing);
        ASSERT_EQ(
            std::memcmp(cut.data(), whole.data(), cut.size() * sizeof(float)),
            0);
        // Rows by ones and twos make tiles of the other size.
        for (const int64_t rows : {1, 2, 11}) {
          const std::vector<float> parts =
              chunk_there.AttendInPieces(rows, kCuts);
          for (size_t i = 0; i < parts.size(); ++i) {
            ASSERT_EQ(parts[i], cut[i])
                << rows << " rows a piece, row " << i / width;
          }
        }
      });
    }
  }
}

TEST(CudaAttention, NoValueOfALaterTokenLeaks) {
  const AttentionShape shape = {
      .num_heads = 3, .num_kv_heads = 1, .head_dim = 32};
  const PagedStep clean(shape, {{40, 30}}, kSeed);
  // Tokens 5 and 12 of their page: mma has them in different registers.
  for (const int64_t bad_row : {13, 20}) {
    PagedStep dirty(shape, {{40, 30}}, kSeed);
    for (int64_t d = 0; d < shape.head_dim; ++d) {
      dirty.SetValue(0, 40 + bad_row, 0, d,
                     std::numeric_limits<float>::infinity());
    }
    ForSeeds(3, [&](cuda_sim::SimDevice& device) {
      const std::vector<float> expected =
          DeviceStep(device, clean).Attend(kCuts);
      const std::vector<float> out = DeviceStep(device, dirty).Attend(kCuts);
      const auto before = static_cast<size_t>(bad_row * clean.out_width());
      EXPECT_EQ(
          std::memcmp(out.data(), expected.data(), before * sizeof(float)), 0);
      for (size_t i = before; i < out.size(); ++i) {
        EXPECT_FALSE(std::isfinite(out[i])) << i;
      }
    });
  }
}

TEST(CudaAttention, RefusesHeadSizesItIsNotMadeFor) {
  for (const int64_t dim : {0, 4, 12, 65, 264}) {
    AttentionLaunch launch;
    launch.kv.head_dim = dim;
    EXPECT_EQ(LaunchAttention(launch, nullptr), cudaErrorInvalidValue) << dim;
  }
}

}  // namespace
}  // namespace sentencekv
